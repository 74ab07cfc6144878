/* An S3 server that keeps nothing: it reads every body as fast as it can, throws it away and says yes.
 *
 * What a client costs by itself is what is left when the server costs nothing. One thread a connection;
 * answers what clients need of the S3 interface: put, head (never there), delete, multipart,
 * listings (always empty), bucket questions. It remembers nothing, so nothing can be resumed on it.
 * GET /__stats answers "requests bytes_received" since the start, so that both are counted outside the clients.
 *
 *     cc -O2 -pthread -o sink sink.c && ./sink PORT [MICROSECONDS]
 */
#define _DEFAULT_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX 65536
#define PIECE (1 << 20)

static atomic_ullong requests, received, uploads;
static useconds_t delay; /* before each answer: a server that is far away, or slow */

static int send_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n <= 0) return -1;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

static int answer(int fd, const char *status, const char *extra, const char *body, int no_body) {
    char head[1024];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %s\r\nServer: sink\r\nx-amz-request-id: 0\r\nContent-Length: %zu\r\nContent-Type: application/xml\r\n%s\r\n",
                     status, strlen(body), extra);
    if (send_all(fd, head, (size_t)n)) return -1;
    return no_body ? 0 : send_all(fd, body, strlen(body));
}

/* The value of a header in a NUL-terminated head, or NULL. */
static const char *header(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, name, length) && line[2 + length] == ':') {
            const char *value = line + 3 + length;
            while (*value == ' ') value++;
            return value;
        }
    return NULL;
}

static int dispatch(int fd, const char *method, const char *target) {
    const char *etag = "ETag: \"d41d8cd98f00b204e9800998ecf8427e\"\r\n";
    char body[1024];
    int get = !strcmp(method, "GET");
    if (!strcmp(target, "/__stats")) {
        snprintf(body, sizeof body, "%llu %llu\n", (unsigned long long)requests - 1, (unsigned long long)received);
        return answer(fd, "200 OK", "", body, 0);
    }
    if (!strcmp(method, "HEAD")) {
        /* A bucket is there, an object never is. */
        const char *path = strchr(target + 1, '/');
        int object = path && path[1] && path[1] != '?';
        return answer(fd, object ? "404 Not Found" : "200 OK", "", "", 1);
    }
    if (!strcmp(method, "DELETE")) return answer(fd, "204 No Content", "", "", 1);
    if (!strcmp(method, "POST") && strstr(target, "uploadId=")) {
        return answer(fd, "200 OK", etag,
                      "<CompleteMultipartUploadResult><Location>x</Location><Bucket>b</Bucket><Key>k</Key>"
                      "<ETag>\"d41d8cd98f00b204e9800998ecf8427e-2\"</ETag></CompleteMultipartUploadResult>", 0);
    }
    if (!strcmp(method, "POST")) {
        snprintf(body, sizeof body,
                 "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>u%llu</UploadId>"
                 "</InitiateMultipartUploadResult>", (unsigned long long)++uploads);
        return answer(fd, "200 OK", "", body, 0);
    }
    if (get && strstr(target, "location"))
        return answer(fd, "200 OK", "", "<LocationConstraint>us-east-1</LocationConstraint>", 0);
    if (get && strstr(target, "uploadId="))
        return answer(fd, "200 OK", "", "<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>", 0);
    if (get && strstr(target, "uploads"))
        return answer(fd, "200 OK", "",
                      "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>", 0);
    if (get)
        return answer(fd, "200 OK", "",
                      "<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys>"
                      "<IsTruncated>false</IsTruncated></ListBucketResult>", 0);
    return answer(fd, "200 OK", etag, "", 0); /* PUT of an object, a part or a bucket */
}

static void *serve(void *argument) {
    int fd = (int)(long)argument;
    char *head = malloc(HEAD_MAX + 1), *piece = malloc(PIECE);
    size_t have = 0;
    for (;;) {
        char *end;
        head[have] = 0;
        while (!(end = strstr(head, "\r\n\r\n"))) {
            if (have == HEAD_MAX) goto done;
            ssize_t n = recv(fd, head + have, HEAD_MAX - have, 0);
            if (n <= 0) goto done;
            have += (size_t)n;
            head[have] = 0;
        }
        size_t head_size = (size_t)(end - head) + 4, body_here = have - head_size;
        *end = 0;
        char method[16], target[8192];
        if (sscanf(head, "%15s %8191s", method, target) != 2) goto done;
        const char *length = header(head, "content-length"), *expect = header(head, "expect");
        unsigned long long size = length ? strtoull(length, NULL, 10) : 0;
        int closing = header(head, "connection") && !strncasecmp(header(head, "connection"), "close", 5);
        if (expect && send_all(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25)) goto done;
        atomic_fetch_add(&requests, 1);
        unsigned long long left = size > body_here ? size - body_here : 0;
        atomic_fetch_add(&received, size - left);
        while (left) {
            ssize_t n = recv(fd, piece, left < PIECE ? left : PIECE, 0);
            if (n <= 0) goto done;
            left -= (unsigned long long)n;
            atomic_fetch_add(&received, (unsigned long long)n);
        }
        if (delay) usleep(delay);
        if (dispatch(fd, method, target) || closing) goto done;
        size_t used = head_size + (size < body_here ? (size_t)size : body_here);
        memmove(head, head + used, have - used);
        have -= used;
    }
done:
    close(fd);
    free(head);
    free(piece);
    return NULL;
}

int main(int count, char **arguments) {
    if (count < 2 || count > 3) return fprintf(stderr, "usage: sink PORT [MICROSECONDS]\n"), 2;
    if (count == 3) delay = (useconds_t)atoi(arguments[2]);
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(arguments[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024))
        return perror("sink"), 1;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, (void *)(long)fd)) close(fd);
        else pthread_detach(thread);
    }
}
