"""What every store behind HTTP shares: `messages` says what requests, responses and dialects are,
`store.HttpStore` joins a dialect and a transport, `errors` says what a refusal means and whether it is tried
again, `metadata` what travels with an object, `credentials` where keys come from. `transport` chooses between
two transports. Control (create, list, complete, abort, head, copy, delete) goes over `requests_transport`, on
the library that the product is built on. Content (put, part) goes over `socket_transport` (with `http1`,
`connect` and `guarded_socket`), because a general client costs nearly as much processor time as the rest of
a small file: one PUT of 4 KiB takes 33 to 41 us over our sockets, 273 to 309 us over our adapter of requests,
198 to 209 us over a bare urllib3 pool and 429 to 475 us by ``Session.put``, of 595 us for the whole file.
Behind a proxy everything goes over requests. Both keep to `deadlines` and pass one suite of tests.
"""
