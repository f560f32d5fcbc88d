// Ranks the results of a search: pages for users come before the records of decisions and changes. The other values are
// those of Sphinx, which takes all of them from here or none. `var`, because Sphinx declares it too.
var Scorer = {
  score: ([page, , , , score]) => (/decisions|CHANGELOG|CONTRIBUTING|benchmarks/.test(page) ? score - 10 : score),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
