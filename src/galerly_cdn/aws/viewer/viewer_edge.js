// Runs viewer.js, which stands before this adapter, as a Lambda@Edge handler for Node.js.
// It writes back only what the function changed: Lambda@Edge refuses changes of other headers.

exports.handler = async function (event) {
    var cf = event.Records[0].cf;
    var context = { eventType: cf.config.eventType, requestId: cf.config.requestId };
    if (cf.response) {
        var told = handler({ context: context, response: { statusCode: Number(cf.response.status), headers: {} } });
        Object.assign(cf.response.headers, listed(told.headers));
        return cf.response;
    }
    var request = {
        method: cf.request.method,
        uri: cf.request.uri,
        querystring: parameters(cf.request.querystring),
        headers: { accept: folded(cf.request.headers.accept) }
    };
    var answer = handler({ context: context, request: request });
    if (answer.statusCode) {
        return {
            status: String(answer.statusCode),
            statusDescription: answer.statusDescription,
            headers: listed(answer.headers),
            body: answer.body ? answer.body.data : ''
        };
    }
    delete answer.headers.accept;
    delete cf.request.headers['x-galerly-stored'];
    delete cf.request.headers['x-galerly-private'];
    delete cf.request.headers['x-galerly-key'];
    Object.assign(cf.request.headers, listed(answer.headers));
    cf.request.uri = answer.uri;
    cf.request.querystring = '';
    return cf.request;
};

// Converts [{key, value}] to {value, multiValue}; undefined stays undefined.
function folded(values) {
    return values && { value: values[0].value, multiValue: values };
}

function listed(headers) {
    var all = {};
    Object.keys(headers).forEach(function (name) {
        all[name] = [{ key: name, value: headers[name].value }];
    });
    return all;
}

// Converts `a=1&b=2` to {a: {value: '1'}, …}. The object has no prototype, so no name is special.
function parameters(query) {
    var all = Object.create(null);
    query.split('&').forEach(function (part) {
        var equals = part.indexOf('=');
        var name = equals < 0 ? part : part.slice(0, equals);
        var value = equals < 0 ? '' : part.slice(equals + 1);
        all[name] = { value: name in all ? all[name].value + '&' + value : value };
    });
    return all;
}
