"""What all stores behind HTTP share: `messages` defines requests, responses and dialects, `store.HttpStore`
joins a dialect and a transport, `errors` says what a refusal means and whether to retry, `metadata` what
travels with an object, `credentials` where keys come from. `connect.Line` is the way to a server; `transport`
chooses between two transports that share it. Control (create, list, complete, abort, head, copy, delete) goes
over `requests_transport`, on the library requests. Content (put, part, range) goes over `socket_transport`
(with `http1`), because a general client costs nearly as much processor time as the rest of a small file: one
PUT of 4 KiB takes 33 to 41 us over our sockets, 273 to 309 us over our adapter of requests, 198 to 209 us
over a bare urllib3 pool and 429 to 475 us by ``Session.put``, of 595 us for the whole file. Behind a proxy
everything uses requests. Both transports obey `deadlines` and pass one suite of tests.
"""
