// Runs CloudFront Functions, each in a context of its own. Each line of input is {load: name, code} or
// {call: name, event, milliseconds}; each line of output is {result} or {error}.
const vm = require('vm');
const contexts = new Map();

// Of the runtime's modules, the one that the viewer function uses.
function requireModule(name) {
    if (name !== 'crypto') {
        throw new Error('the module ' + name + ' is not modelled');
    }
    return require(name);
}

async function respond(request) {
    if (request.load) {
        const context = vm.createContext({ require: requireModule });
        vm.runInContext(request.code, context);
        contexts.set(request.load, context);
        return null;
    }
    const context = contexts.get(request.call);
    context.eventJson = JSON.stringify(request.event);
    for (;;) {
        const before = process.cpuUsage();
        try {
            return vm.runInContext('handler(JSON.parse(eventJson))', context, { timeout: request.milliseconds });
        } catch (error) {
            // CloudFront limits the time of computing. On a busy machine, the time may pass without any.
            const used = process.cpuUsage(before);
            if (error.code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT' || used.user + used.system > 500 * request.milliseconds) {
                throw error;
            }
        }
    }
}

require('readline').createInterface({ input: process.stdin }).on('line', async (line) => {
    let response;
    try {
        response = { result: await respond(JSON.parse(line)) };
    } catch (error) {
        response = { error: String(error) };
    }
    process.stdout.write(JSON.stringify(response) + '\n');
});
