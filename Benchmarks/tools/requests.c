// Calls the server API at a rate; one JSON line with the latencies on standard output.
//
//   requests file=FILE key=APIKEY [rate=N] [connections=N] [answers=FILE]
//
// FILE holds `PORT PATH BODY` per line; without a body it is a GET. At a rate of 0 every connection sends its next request
// when it has the answer to the last one, and latency is that of the answer; otherwise requests are due at fixed times,
// whatever came back, and latency runs from then. `answers` gets the bodies in the order of the requests.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORTS 16
#define ANSWER (1 << 20)

struct request {
    int port;
    char *path, *body, *answer;
    uint64_t took;
    bool failed;
};

static struct request *requests;
static size_t count;
static _Atomic size_t next_request;
static const char *key = "";
static double rate;
static uint64_t begin_at;

static void die(const char *what) {
    fprintf(stderr, "requests: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static int dial(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct timeval limit = {.tv_sec = 30};
    if (descriptor < 0) die("socket");
    if (connect(descriptor, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return descriptor;
}

static void write_all(int descriptor, const char *data, size_t size) {
    while (size) {
        ssize_t written = send(descriptor, data, size, MSG_NOSIGNAL);
        if (written <= 0) die("send");
        data += written, size -= (size_t)written;
    }
}

// The length of the body that follows the head.
static size_t length_in(const char *head) {
    const char *line = strcasestr(head, "\r\ncontent-length:");
    return line ? strtoul(line + 17, NULL, 10) : 0;
}

// Sends one request and reads its whole answer into `buffer`.
static void call(int descriptor, struct request *r, char *buffer) {
    size_t size = r->body ? strlen(r->body) : 0, head = 0, wanted = 0, have = 0;
    int written = snprintf(buffer, ANSWER,
                           "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-API-Key: %s\r\nContent-Type: application/json\r\n"
                           "Content-Length: %zu\r\n\r\n%s",
                           r->body ? "POST" : "GET", r->path, r->port, key, size, r->body ? r->body : "");
    if (written >= ANSWER) die("the request is too large");
    write_all(descriptor, buffer, (size_t)written);
    while (!head || have < head + wanted) {
        ssize_t got = recv(descriptor, buffer + have, ANSWER - 1 - have, 0);
        if (got <= 0) die("the connection ended within an answer");
        have += (size_t)got, buffer[have] = 0;
        char *end = head ? NULL : strstr(buffer, "\r\n\r\n");
        if (end) {
            head = (size_t)(end - buffer) + 4;
            *end = 0, wanted = length_in(buffer), *end = '\r';
            if (head + wanted >= ANSWER) die("the answer is too large");
        }
    }
    r->failed = memcmp(buffer, "HTTP/1.1 200", 12) || !strncmp(buffer + head, "{\"error\"", 8);
    r->answer = strdup(buffer + head);
}

static void *work(void *unused) {
    (void)unused;
    int ports[PORTS], descriptors[PORTS], open = 0;
    char *buffer = malloc(ANSWER);
    for (size_t i; (i = next_request++) < count;) {
        struct request *r = &requests[i];
        int at = 0;
        while (at < open && ports[at] != r->port) at++;
        if (at == open) {
            if (open == PORTS) die("too many ports");
            ports[open] = r->port, descriptors[open++] = dial(r->port);
        }
        uint64_t due = now_ns();
        if (rate > 0) {
            due = begin_at + (uint64_t)((double)i / rate * 1e9);
            struct timespec until = {.tv_sec = (time_t)(due / 1000000000ull), .tv_nsec = (long)(due % 1000000000ull)};
            while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {}
        }
        call(descriptors[at], r, buffer);
        r->took = now_ns() - due;
    }
    free(buffer);
    return NULL;
}

static void read_requests(const char *name) {
    FILE *file = fopen(name, "r");
    char *line = NULL;
    size_t room = 0, capacity = 0;
    ssize_t size;
    if (!file) die(name);
    while ((size = getline(&line, &room, file)) > 0) {
        if (line[size - 1] == '\n') line[size - 1] = 0;
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 1024;
            requests = realloc(requests, capacity * sizeof *requests);
        }
        char *path = strchr(line, ' ');
        if (!path) die("a line is not `PORT PATH BODY`");
        *path++ = 0;
        char *body = strchr(path, ' ');
        if (body) *body++ = 0;
        requests[count++] = (struct request){.port = atoi(line), .path = strdup(path), .body = body ? strdup(body) : NULL};
    }
    free(line);
    fclose(file);
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    const char *file = NULL, *answers = NULL;
    int connections = 4;
    for (int i = 1; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value) die("options are KEY=VALUE");
        *value++ = 0;
        if (!strcmp(argv[i], "file")) file = value;
        else if (!strcmp(argv[i], "key")) key = value;
        else if (!strcmp(argv[i], "rate")) rate = atof(value);
        else if (!strcmp(argv[i], "connections")) connections = atoi(value);
        else if (!strcmp(argv[i], "answers")) answers = value;
        else die("unknown option");
    }
    if (!file || connections < 1 || connections > 64) die("file=FILE, connections=1…64");
    signal(SIGPIPE, SIG_IGN);
    read_requests(file);
    if (!count) die("no requests");
    pthread_t threads[64];
    begin_at = now_ns() + 20000000ull;
    for (int i = 0; i < connections; i++)
        if (pthread_create(&threads[i], NULL, work, NULL)) die("pthread_create");
    for (int i = 0; i < connections; i++) pthread_join(threads[i], NULL);
    double wall = (double)(now_ns() - begin_at) / 1e9;
    uint64_t *took = malloc(count * sizeof *took);
    size_t failed = 0;
    const char *first_failure = NULL;
    for (size_t i = 0; i < count; i++) {
        took[i] = requests[i].took;
        if (!requests[i].failed) continue;
        if (!first_failure) first_failure = requests[i].answer;
        failed++;
    }
    if (first_failure) fprintf(stderr, "requests: the first of %zu failures: %.300s\n", failed, first_failure);
    qsort(took, count, sizeof *took, ascending);
    printf("{\"requests\":%zu,\"failed\":%zu,\"wall_s\":%.3f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n", count, failed, wall,
           (double)took[count / 2] / 1e6, (double)took[count * 99 / 100] / 1e6, (double)took[count - 1] / 1e6);
    FILE *out = answers ? fopen(answers, "w") : NULL;
    if (answers && !out) die(answers);
    if (out)
        for (size_t i = 0; i < count; i++) fprintf(out, "%s\n", requests[i].answer);
    if (out) fclose(out);
    return 0;
}
