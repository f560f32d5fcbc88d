// Runs CloudFront Functions, each in a realm of its own. A line in: {load: name, code} or {call: name, event,
// milliseconds}; a line out: {result} or {error}.
const vm = require('vm');
const realms = new Map();

async function answer(asked) {
    if (asked.load) {
        const realm = vm.createContext({});
        vm.runInContext(asked.code, realm);
        realms.set(asked.load, realm);
        return null;
    }
    const realm = realms.get(asked.call);
    realm.asked = JSON.stringify(asked.event);
    return vm.runInContext('handler(JSON.parse(asked))', realm, { timeout: asked.milliseconds });
}

require('readline').createInterface({ input: process.stdin }).on('line', async (line) => {
    let told;
    try {
        told = { result: await answer(JSON.parse(line)) };
    } catch (error) {
        told = { error: String(error) };
    }
    process.stdout.write(JSON.stringify(told) + '\n');
});
