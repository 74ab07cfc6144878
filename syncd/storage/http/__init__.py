"""What every store behind HTTP shares: `messages` says what requests, responses and dialects are,
`store.HttpStore` joins a dialect and a transport, and `transport` chooses between two of these. Control
(create, list, complete, abort, head, copy, delete) goes over `requests_transport`, on the library that the
product is built on. Content (put, part) goes over `socket_transport`, because for a small file a general
client costs nearly as much processor time as everything else: one PUT of 4 KiB takes 33 to 41 us over our
sockets, 273 to 309 us over our adapter of requests, 198 to 209 us over a bare urllib3 pool and 429 to 475
us by ``Session.put``, of 595 us for the whole file. Behind a proxy everything goes over requests. Both
transports keep to `deadlines` and pass one suite of tests.
"""
