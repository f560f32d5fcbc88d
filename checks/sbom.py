"""Prints an image's bill of materials, CycloneDX 1.6: `checks/sbom.py ROOT VERSION` in .galerly/manifests.

It lists Debian's packages by the records that dpkg keeps, Python's by their metadata, with their licences,
and what wheels say that they were compiled from. The document is checked with CycloneDX's own schema.
"""

# The type checkers run in another environment, without these packages.
# pyright: reportMissingImports=false

from __future__ import annotations

import json
import sys
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

if TYPE_CHECKING:
    from collections.abc import Iterator


def debian_packages(root: Path) -> Iterator[Component]:
    """Debian's packages, by the records in /var/lib/dpkg/status.d."""
    for file in sorted((root / "var/lib/dpkg/status.d").iterdir()):
        record = HeaderParser().parsestr(file.read_text("utf-8"))
        name, version = record["Package"], record["Version"]
        purl = PackageURL(
            "deb", "debian", name, version, {"arch": record["Architecture"], "distro": "debian-12"}
        )
        yield Component(name=name, version=version, purl=purl, bom_ref=str(purl), type=ComponentType.LIBRARY)


def python_packages(root: Path) -> Iterator[Component]:
    """Python's packages, by their metadata."""
    licences = LicenseFactory()
    (folder,) = (root / "opt/galerly-cdn/lib").glob("python3.*/site-packages")
    for found in sorted(metadata.distributions(path=[str(folder)]), key=lambda one: one.name.lower()):
        described = found.metadata.json
        licence = str(described.get("license_expression") or described.get("license") or "")
        purl = PackageURL("pypi", None, found.name.lower().replace("_", "-"), found.version)
        yield Component(
            name=found.name,
            version=found.version,
            purl=purl,
            bom_ref=str(purl),
            type=ComponentType.LIBRARY,
            licenses=[licences.make_from_string(licence)] if 0 < len(licence) < 100 else [],
        )


def compiled_in(root: Path) -> Iterator[Component]:
    """What wheels were compiled from, such as OpenSSL, by the documents in them (PEP 770), each once."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted(
        (root / "opt/galerly-cdn/lib").glob("python3.*/site-packages/*.dist-info/sboms/*.json")
    ):
        for part in json.loads(file.read_text("utf-8")).get("components", []):
            if "purl" in part and not part["purl"].startswith("pkg:pypi/"):
                found.setdefault(part["purl"], part)
    for purl, part in sorted(found.items()):
        yield Component(
            name=part["name"],
            version=part.get("version"),
            purl=PackageURL.from_string(purl),
            bom_ref=purl,
            type=ComponentType.LIBRARY,
        )


def bill_of_materials(root: Path, version: str) -> str:
    """The document, as JSON. Raises `ValueError` if the schema forbids it."""
    image = Component(name="galerly-cdn", version=version, bom_ref="image", type=ComponentType.CONTAINER)
    parts = [*debian_packages(root), *python_packages(root), *compiled_in(root)]
    bom = Bom(components=parts)
    bom.metadata.component = image
    bom.register_dependency(image, parts)
    text: str = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ValueError(problem)
    return text


if __name__ == "__main__":
    print(bill_of_materials(Path(sys.argv[1]), sys.argv[2]))
