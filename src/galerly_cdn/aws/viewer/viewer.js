// Maps a viewer's path to an object of the bucket: the edge's rules (http/urls.py, http/negotiation.py,
// access/authorizer.py) as a CloudFront Function. source.py writes the variables TABLES and SIGNED before it.
// It uses only ECMAScript 5.1, so that every runtime (njs, Node, later ones) can run it.
// source.py strips comment lines and indentation: CloudFront allows 10,240 bytes.

// `(?![\s\S])` is the end of the text: in njs `$` also matches before a last line feed.
// RFC 3986 §3.3 pchar, `%` and `/`. decodeURIComponent throws for a `%` without two hexadecimal digits.
var ENCODED_KEY = /^[A-Za-z0-9!$&'()*+,;=:@\-._~\/%]+(?![\s\S])/;
// RFC 9110 §12.5.1. Any text takes linear time: what may follow a repetition begins with a character that is not in it.
var TOKEN = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]+";
var END = '(?![\\s\\S])';
var WEIGHT = '[qQ]=(?:0(?:\\.[0-9]{0,3})?|1(?:\\.0{0,3})?)';
var PARAMETER = '(?:' + WEIGHT + '|(?![qQ]=)' + TOKEN + '=' + TOKEN + ')[ \\t]*';
var ELEMENT = '[ \\t]*(?:' + TOKEN + '/' + TOKEN + '[ \\t]*(?:;[ \\t]*(?:' + PARAMETER + ')?)*)?';
var ACCEPT = new RegExp('^' + ELEMENT + '(?:,' + ELEMENT + ')*' + END);
// Elements that name a format, and those that do so with a weight of 0.
var NAMED = TABLES.preference.map(function (format) { return naming(format, '[ \\t]*(?=[,;]|' + END + ')'); });
var REFUSED = TABLES.preference.map(function (format) {
    return naming(format, '[ \\t]*;(?:[^,]*;)?[ \\t]*q=0(?:\\.0*)?[ \\t]*(?=[,;]|' + END + ')');
});

function naming(format, rest) {
    return new RegExp('(?:^|,)[ \\t]*image/' + format + rest, 'i');
}

function handler(event) {
    if (event.context.eventType === 'viewer-response') {
        return keep(event.response);
    }
    var request = event.request;
    var found = answer(request);
    if (found.code) {
        return refusal(found, request.method, event.context.requestId);
    }
    // These headers are for the resizer, so a viewer's own are deleted. Only the query of a followed redirect
    // and the behaviours that verify signatures set them.
    mark(request, 'x-galerly-stored', parameter(request.querystring, 'stored') === '1' && '1');
    mark(request, 'x-galerly-private', found.secret && '1');
    mark(request, 'x-galerly-key', found.key);
    request.querystring = {};
    request.uri = found.uri;
    return request;
}

function mark(request, name, value) {
    delete request.headers[name];
    if (value) {
        request.headers[name] = { value: value };
    }
}

function parameter(querystring, name) {
    return has(querystring, name) ? querystring[name].value : '';
}

// Returns {uri, key} of the object in the bucket, or {code} of an error; `secret` is true for a private object.
function answer(request) {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
        return { code: 'method-not-allowed' };
    }
    if (starts(request.uri, '/original/')) {
        return locate('/originals/', readKey(request.uri.slice(10)), request, TABLES.signsOriginals);
    }
    if (!starts(request.uri, '/resize/')) {
        return { code: 'unknown-path' };
    }
    var asked = request.uri.slice(8);
    var slash = asked.indexOf('/');
    var target = readTarget(slash < 0 ? asked : asked.slice(0, slash), request.headers.accept);
    if (target.code) {
        return target;
    }
    var key = slash < 0 ? null : readKey(asked.slice(slash + 1));
    return locate('/resized/' + target.name + '/', key, request, false);
}

// Locates a key below a folder of the bucket. The behaviours of private paths verify signatures before this
// function runs, and have SIGNED set. A private path in another percent-encoding reaches another behaviour,
// whose function refuses it here.
function locate(folder, key, request, isSecret) {
    if (key === null) {
        return { code: 'malformed-key' };
    }
    var rest = inPrivateFolder(key);
    var spelled = spell(key);
    var found = { uri: folder + spelled, secret: isSecret || rest !== null };
    if (folder !== '/originals/') {
        found.uri = folder + stored(spelled);
        found.key = spelled;
    }
    if (rest !== null && rest.split('/').length !== 2) {
        // A policy's `*` matches `/`, so a policy could match a deeper key of another gallery.
        found.code = 'malformed-key';
    } else if (found.secret && !SIGNED) {
        found.code = 'signature-required';
    } else if (found.secret && /\/|%2f/i.test(JSON.stringify(request.querystring))) {
        // It matches `?` too, so a policy could match a query. CloudFront's own base64 has no slash.
        found.code = 'signature-invalid';
    }
    return found;
}

// Reads the size segment: returns {name: '800x600.webp'}, or {code} of an error.
function readTarget(segment, accept) {
    var dot = segment.indexOf('.');
    var size = dot < 0 ? segment : segment.slice(0, dot);
    if (has(TABLES.names, size)) {
        size = TABLES.names[size];
    }
    if (!has(TABLES.sizes, size)) {
        return { code: 'size-not-allowed' };
    }
    var format = dot < 0 ? negotiate(accept, TABLES.sizes[size]) : segment.slice(dot + 1);
    if (dot >= 0 && TABLES.sizes[size].indexOf(format) < 0) {
        return { code: 'format-not-allowed' };
    }
    return { name: format ? size + '.' + format : size };
}

// Decodes a percent-encoded key once and checks it; returns null for a malformed key.
function readKey(encoded) {
    if (encoded.length > 3 * TABLES.maxKeyBytes || !ENCODED_KEY.test(encoded) || /%2f/i.test(encoded)) {
        return null;
    }
    // An escape is three characters for one byte; everything else is ASCII.
    var bytes = encoded.length - 2 * (encoded.split('%').length - 1);
    var key;
    try {
        key = decodeURIComponent(encoded);
    } catch (error) {
        return null;
    }
    // No segment is empty or begins with a dot.
    if (bytes > TABLES.maxKeyBytes || /[\x00-\x1f\x7f-\x9f\\]|(^|\/)(\.|\/|(?![\s\S]))/.test(key)) {
        return null;
    }
    return key;
}

// Encodes a key as S3 signs it: unreserved characters bare, all others escaped, also `+`, which S3 reads as a
// space. All encodings of a key thus become one path, and one object in every cache.
function spell(key) {
    var spelled = swap(encodeURIComponent(key), '%2F', '/');
    if (/[!'()*]/.test(spelled)) {
        ['!', "'", '(', ')', '*'].forEach(function (one) {
            spelled = swap(spelled, one, '%' + one.charCodeAt(0).toString(16).toUpperCase());
        });
    }
    return spelled;
}

// Spells the name of a rendition without escapes, from the encoding of `spell`: decision 0022.
function stored(spelled) {
    if (!/[%~]/.test(spelled)) {
        return spelled;
    }
    var name = spelled.split('/').map(function (one) {
        return /[%~]/.test(one) ? '.' + swap(one, '-', '%2D') : one;
    }).join('/');
    name = swap(swap(name, '~', '%7E'), '%', '-');
    var cut = name.search(/(^|\/)\.[^\/]{255}/);
    if (cut < 0 && name.length <= 900) {
        return name;
    }
    var end = cut < 0 ? 832 : Math.min(832, cut);
    var digest = require('crypto').createHash('sha256').update(name).digest('hex');
    return name.slice(0, 1 + name.lastIndexOf('/', end)) + '.--' + digest;
}

// Returns the rest of a key below its private folder; null for a public key.
function inPrivateFolder(key) {
    for (var i = 0; i < TABLES.privateFolders.length; i++) {
        if (starts(key + '/', TABLES.privateFolders[i])) {
            return key.slice(TABLES.privateFolders[i].length);
        }
    }
    return null;
}

// Returns the first format of `offered` that Accept allows: AVIF, then WebP, else '' for the original's own.
// A malformed header, or one over the limits, allows none.
function negotiate(accept, offered) {
    if (!accept) {
        return '';
    }
    var text = accept.value;
    if (accept.multiValue) {
        text = accept.multiValue.map(function (one) { return one.value; }).join(', ');
    }
    if (text.length > TABLES.maxAcceptBytes || text.split(',').length > TABLES.maxAcceptElements) {
        return '';
    }
    for (var i = 0; i < NAMED.length; i++) {
        if (offered.indexOf(TABLES.preference[i]) >= 0 && NAMED[i].test(text) && !REFUSED[i].test(text)) {
            return ACCEPT.test(text) ? TABLES.preference[i] : '';
        }
    }
    return '';
}

// Returns the edge's JSON error, as `responses.failure` builds it.
function refusal(found, method, requestId) {
    var error = TABLES.errors[found.code];
    var shared = found.secret ? TABLES.secretHeaders : TABLES.headers;
    var headers = {};
    for (var name in shared) {
        headers[name] = { value: shared[name] };
    }
    headers['cache-control'] = { value: found.secret ? 'no-store' : error.lifetime };
    if (error.allow) {
        headers.allow = { value: error.allow };
    }
    var told = { code: found.code, message: error.message, request_id: requestId };
    var response = { statusCode: error.status, statusDescription: error.reason, headers: headers };
    if (method !== 'HEAD') {
        response.body = { encoding: 'text', data: JSON.stringify({ error: told }) + '\n' };
    }
    return response;
}

// Sets Cache-Control: stored objects have `public` or none, and a signed response must be private.
function keep(response) {
    if (response.statusCode < 400) {
        response.headers['cache-control'] = { value: SIGNED ? TABLES.privateLifetime : TABLES.publicLifetime };
    }
    return response;
}

// Replaces every occurrence. In njs `replace` takes quadratic time for it.
function swap(text, from, to) {
    return text.split(from).join(to);
}

function starts(text, prefix) {
    return text.slice(0, prefix.length) === prefix;
}

function has(table, name) {
    return Object.prototype.hasOwnProperty.call(table, name);
}
