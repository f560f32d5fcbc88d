# A front of galerly-cdn by Varnish 7: docs/nginx.md, "Varnish instead of nginx". `galerly-cdn nginx` does more.
#
# Change the backends. The nodes need trusted_proxies with this machine's address: only then do they tell how long
# an answer may be kept (CDN-Cache-Control), and nothing is kept without it. They also need
# max_connections_per_client well above what this machine opens, and health_path = "/health".
vcl 4.1;

import directors;
import std;

probe ready {
    .url = "/health/readyz";
    .interval = 1s;
    .timeout = 2s;
    .window = 3;
    .threshold = 2;
    .initial = 2;
}
backend node1 {
    .host = "10.0.0.1";
    .port = "8000";
    .connect_timeout = 1s;
    .first_byte_timeout = 40s;
    .between_bytes_timeout = 10s;
    .probe = ready;
}
backend node2 {
    .host = "10.0.0.2";
    .port = "8000";
    .connect_timeout = 1s;
    .first_byte_timeout = 40s;
    .between_bytes_timeout = 10s;
    .probe = ready;
}

sub vcl_init {
    # All pictures of a photograph go to one node: its memory is used well, and a render is made once.
    new nodes = directors.shard();
    nodes.add_backend(node1);
    nodes.add_backend(node2);
    nodes.reconfigure(replicas = 67);
}

sub vcl_recv {
    if (req.method != "GET" && req.method != "HEAD") {
        return (synth(405));
    }
    if (req.url !~ "^/" || req.url ~ "(?i)^[^?]*(?://|/\.\.?(?:[/?]|\z)|%2e|%2f|%5c|\\)" || req.url ~ "[^!-~]|#") {
        return (synth(400));
    }
    if (req.url !~ "^/(?:resize|original)/") {
        return (synth(404));
    }
    unset req.http.Authorization;
    unset req.http.Origin;
    set req.http.X-Galerly-Photo = regsub(regsub(req.url, "\?.*", ""), "^/(?:resize/[^/]+|original)/", "");
    std.collect(req.http.Accept, ", ");
    call fold_accept;

    if (req.http.Galerly-Refresh) {
        call refresh;
    }
    # Originals and parts are not kept: Varnish's own 416 would carry the picture's `immutable`.
    if (req.http.Range || req.url ~ "^/original/") {
        return (pass);
    }
    # What has expired is compared with the node's before it is shown, unless no node answers (vcl_deliver).
    set req.grace = 0s;
    if (req.restarts > 0) {
        set req.grace = 30d;
    }
    # Neither the query nor cookies are part of an entry. They reach the node, which reads signatures there, and
    # calls what it has checked private: that is not kept, so that each viewer is checked by a node.
    return (hash);
}

# Accept, folded to what a node would choose: AVIF, WebP, or neither. A malformed header accepts neither, and a
# format that is named twice, once with q=0, is refused. The same expressions are in nginx's configuration.
sub fold_accept {
    set req.http.X-Galerly-Format = "*/*";
    if (req.http.Accept ~ {"(?i)^(?=.{0,1024}\z)[ \t]*+(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++/[!#$%&'*+\-.^_`|~0-9A-Za-z]++[ \t]*+(?:;[ \t]*+(?:(?:q=(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)(?=[ \t;,]|\z)|(?!q=)[!#$%&'*+\-.^_`|~0-9A-Za-z]++=[!#$%&'*+\-.^_`|~0-9A-Za-z]++)[ \t]*+)?)*+)?(?:,[ \t]*+(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++/[!#$%&'*+\-.^_`|~0-9A-Za-z]++[ \t]*+(?:;[ \t]*+(?:(?:q=(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)(?=[ \t;,]|\z)|(?!q=)[!#$%&'*+\-.^_`|~0-9A-Za-z]++=[!#$%&'*+\-.^_`|~0-9A-Za-z]++)[ \t]*+)?)*+)?){0,31}\z"}) {
        if (req.http.Accept ~ {"(?i)(?:^|,)[ \t]*+image/webp[ \t]*+(?:[;,]|\z)"}
            && req.http.Accept !~ {"(?i)(?:^|,)[ \t]*+image/webp[ \t]*+(?:;[^,;]*)*?;[ \t]*+q=0(?:\.0*)?[ \t]*+(?:[;,]|\z)"}) {
            set req.http.X-Galerly-Format = "image/webp";
        }
        if (req.http.Accept ~ {"(?i)(?:^|,)[ \t]*+image/avif[ \t]*+(?:[;,]|\z)"}
            && req.http.Accept !~ {"(?i)(?:^|,)[ \t]*+image/avif[ \t]*+(?:;[^,;]*)*?;[ \t]*+q=0(?:\.0*)?[ \t]*+(?:[;,]|\z)"}) {
            set req.http.X-Galerly-Format = "image/avif";
        }
    }
    set req.http.Accept = req.http.X-Galerly-Format;
    unset req.http.X-Galerly-Format;
}

# Requests of the setting `fronts`: HEAD asks, GET drops all pictures of the photograph. The file has the secret, which
# is derived from the admin API's token: docs/nginx.md has the command. Only Varnish's user may read it. Varnish reads
# it once: start it again after a change.
sub refresh {
    set req.http.X-Galerly-Secret = regsub(std.fileread("/etc/varnish/galerly.secret"), "(?s)[^0-9a-f].*", "");
    if (req.http.X-Galerly-Secret == "" || req.http.Galerly-Refresh != req.http.X-Galerly-Secret) {
        return (synth(400));
    }
    if (req.method == "HEAD") {
        return (synth(503, "together"));
    }
    if (std.ban("obj.http.X-Galerly-Photo == " + req.http.X-Galerly-Photo)) {
        return (synth(503, "dropped"));
    }
    return (synth(503));
}

sub vcl_hash {
    hash_data(regsub(req.url, "\?.*", ""));
    hash_data(req.http.Accept);
    return (lookup);
}

sub vcl_miss {
    if (req.restarts > 0) {
        return (synth(503));
    }
    return (fetch);
}

sub vcl_backend_fetch {
    # A retry asks the next node.
    set bereq.backend = nodes.backend(by = KEY, key = nodes.key(bereq.http.X-Galerly-Photo), alt = bereq.retries);
    unset bereq.http.Accept-Encoding;
    unset bereq.http.Galerly-Refresh;
    return (fetch);
}

sub vcl_backend_response {
    # A body that breaks off is asked of another node: it is complete before its first byte is sent.
    if (!bereq.uncacheable) {
        set beresp.do_stream = false;
    }
    unset beresp.http.Set-Cookie;
    set beresp.http.X-Galerly-Photo = bereq.http.X-Galerly-Photo;
    if (beresp.http.Cache-Control ~ "(?i)private|no-store" || beresp.http.CDN-Cache-Control !~ "max-age=[0-9]+") {
        set beresp.uncacheable = true;
        set beresp.ttl = 10s;
        return (deliver);
    }
    set beresp.ttl = std.duration(regsub(beresp.http.CDN-Cache-Control, ".*max-age=([0-9]+).*", "\1s"), 0s);
    set beresp.grace = 30d;
    set beresp.keep = 0s;
    return (deliver);
}

sub vcl_backend_error {
    if (bereq.retries < 1) {
        return (retry);
    }
    set beresp.status = 503;
    set beresp.http.Content-Type = "application/json";
    set beresp.http.Cache-Control = "no-store";
    set beresp.http.Retry-After = "1";
    set beresp.body = """{"error":{"code":"unavailable","message":"Try again in a moment."}}
""";
    set beresp.uncacheable = true;
    set beresp.ttl = 0s;
    return (deliver);
}

sub vcl_deliver {
    # No node answers: the picture as it was is better than none.
    if (resp.status >= 500 && req.restarts == 0 && !req.http.Range && req.url ~ "^/resize/") {
        return (restart);
    }
    if (obj.hits > 0 && !obj.uncacheable) {
        unset resp.http.Server-Timing;
        set resp.http.Cache-Status = "varnish; hit";
        if (req.restarts > 0) {
            set resp.http.Cache-Status = "varnish; hit; detail=stale";
        }
    } else {
        if (resp.http.Cache-Status) {
            set resp.http.Cache-Status = resp.http.Cache-Status + ", ";
        }
        set resp.http.Cache-Status = resp.http.Cache-Status + "varnish; fwd=uri-miss";
        if (obj.uncacheable) {
            set resp.http.Cache-Status = regsub(resp.http.Cache-Status, "uri-miss$", "bypass");
        }
    }
    unset resp.http.CDN-Cache-Control;
    unset resp.http.X-Galerly-Photo;
    unset resp.http.X-Varnish;
    unset resp.http.Via;
    unset resp.http.Age;
    return (deliver);
}

sub vcl_synth {
    unset resp.http.X-Varnish;
    set resp.http.Content-Type = "application/json";
    set resp.http.Cache-Control = "no-store";
    if (req.http.Galerly-Refresh && resp.reason ~ "^(?:together|dropped)$") {
        set resp.http.Galerly-Refresh = resp.reason;
    }
    if (resp.status == 400) {
        set resp.body = """{"error":{"code":"bad-request","message":"The request is malformed."}}
""";
    } elseif (resp.status == 404) {
        set resp.body = """{"error":{"code":"unknown-path","message":"There is nothing at this address."}}
""";
    } elseif (resp.status == 405) {
        set resp.http.Allow = "GET, HEAD";
        set resp.body = """{"error":{"code":"method-not-allowed","message":"This address does not support this method."}}
""";
    } else {
        set resp.http.Retry-After = "1";
        set resp.body = """{"error":{"code":"unavailable","message":"Try again in a moment."}}
""";
    }
    return (deliver);
}
