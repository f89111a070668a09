// The load generator and the ceiling of the benchmarks; one JSON line per measurement on standard output.
//
//   load ceiling PORT                  an epoll server with nothing in it: what a subscriber is sent costs one send()
//   load measure KEY=VALUE…            subscribers, an open-loop publisher, latencies, CPU time of the servers
//   load idle KEY=VALUE…               connects in steps and reads the server's memory at each
//   load listen users=FILE             connects the users of FILE (`PORT TOKEN` per line), says `ready`, and for each line
//                                      `EVENT NANOSECONDS` it reads tells how long after that the event had come to all
//
// Latency runs from the moment a publication was *due*, so that a publisher or server that stalls shows it.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what) {
    fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

// --- options: KEY=VALUE ------------------------------------------------------------------------------------------------

static char **option_list;
static int option_count;

static const char *text_option(const char *key, const char *otherwise) {
    size_t length = strlen(key);
    for (int i = 0; i < option_count; i++)
        if (!strncmp(option_list[i], key, length) && option_list[i][length] == '=') return option_list[i] + length + 1;
    return otherwise;
}

static double number_option(const char *key, double otherwise) {
    const char *text = text_option(key, NULL);
    return text ? atof(text) : otherwise;
}

// --- latencies: buckets of 1 % ---------------------------------------------------------------------------------------------

#define BUCKETS 4096
static uint64_t buckets[BUCKETS], samples, longest;

static int bucket_of(uint64_t ns) {
    // 64 linear steps within each power of two.
    if (ns < 64) return (int)ns;
    int power = 63 - __builtin_clzll(ns);
    return ((power - 5) << 6) + (int)((ns >> (power - 6)) & 63);
}

static uint64_t value_of(int bucket) {
    if (bucket < 64) return (uint64_t)bucket;
    int power = (bucket >> 6) + 5;
    return (1ull << power) + ((uint64_t)(bucket & 63) << (power - 6));
}

static void add_sample(uint64_t ns) {
    int bucket = bucket_of(ns);
    buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    samples++;
    if (ns > longest) longest = ns;
}

static double quantile_ms(double q) {
    uint64_t wanted = (uint64_t)(q * (double)samples), seen = 0;
    if (!samples) return -1;
    for (int i = 0; i < BUCKETS; i++) {
        seen += buckets[i];
        if (seen > wanted) return (double)value_of(i) / 1e6;
    }
    return (double)longest / 1e6;
}

// --- what the kernel knows of the servers ----------------------------------------------------------------------------------

static uint64_t cpu_ns(const char *pids) {
    uint64_t total = 0;
    char list[256], path[512];
    snprintf(list, sizeof list, "%s", pids);
    for (char *save, *pid = strtok_r(list, ",", &save); pid; pid = strtok_r(NULL, ",", &save)) {
        snprintf(path, sizeof path, "/proc/%s/task", pid);
        DIR *tasks = opendir(path);
        if (!tasks) continue;
        for (struct dirent *task; (task = readdir(tasks));) {
            if (task->d_name[0] == '.') continue;
            snprintf(path, sizeof path, "/proc/%.20s/task/%.20s/schedstat", pid, task->d_name);
            FILE *file = fopen(path, "r");
            unsigned long long ns = 0;
            if (file && fscanf(file, "%llu", &ns) == 1) total += ns;
            if (file) fclose(file);
        }
        closedir(tasks);
    }
    return total;
}

static double memory_kib(const char *pid) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%.20s/smaps_rollup", pid);
    FILE *file = fopen(path, "r");
    double kib = 0;
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "Rss: %lf kB", &kib) == 1) break;
    fclose(file);
    return kib;
}

// --- connections -------------------------------------------------------------------------------------------------------------

enum wire { WEBSOCKET, LINES, REDIS };

struct connection {
    int descriptor;
    bool upgraded, ready, closed;
    int port;
    const char *token;
    uint64_t event, heard_at;  // the last notification
    uint8_t *held;  // the beginning of a frame that has not come in whole
    uint32_t held_size;
};

static struct sockaddr_in address(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

static int dial(int port) {
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in to = address(port);
    if (descriptor < 0) die("socket");
    if (connect(descriptor, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return descriptor;
}

static void write_all(int descriptor, const void *data, size_t size) {
    const uint8_t *next = data;
    while (size) {
        ssize_t written = send(descriptor, next, size, MSG_NOSIGNAL);
        if (written < 0 && (errno == EAGAIN || errno == EINTR)) {
            struct pollfd wait = {.fd = descriptor, .events = POLLOUT};
            poll(&wait, 1, 1000);
            continue;
        }
        if (written <= 0) return;  // the reader notices
        next += written, size -= (size_t)written;
    }
}

// A text frame masked with zeros: legal, and free.
static size_t text_frame(uint8_t *out, const char *text, size_t size) {
    size_t head = 2;
    out[0] = 0x81;
    if (size < 126) {
        out[1] = (uint8_t)(0x80 | size);
    } else {
        out[1] = 0x80 | 126, out[2] = (uint8_t)(size >> 8), out[3] = (uint8_t)size;
        head = 4;
    }
    memset(out + head, 0, 4);
    memcpy(out + head + 4, text, size);
    return head + 4 + size;
}

static void send_text(int descriptor, const char *text) {
    uint8_t frame[8192];
    write_all(descriptor, frame, text_frame(frame, text, strlen(text)));
}

static void send_upgrade(int descriptor, int port) {
    char request[512];
    int size = snprintf(request, sizeof request,
                        "GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Key: bG9hZCBnZW5lcmF0b3Ihdw==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                        port);
    write_all(descriptor, request, (size_t)size);
}

// Reads until `wanted` stands in what came; dies where it does not come.
static void expect(int descriptor, const char *wanted) {
    char buffer[16384];
    size_t size = 0;
    while (size < sizeof buffer - 1) {
        struct pollfd wait = {.fd = descriptor, .events = POLLIN};
        if (poll(&wait, 1, 10000) <= 0) break;
        ssize_t got = recv(descriptor, buffer + size, sizeof buffer - 1 - size, 0);
        if (got <= 0) break;
        size += (size_t)got;
        if (memmem(buffer, size, wanted, strlen(wanted))) return;
    }
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)buffer[i] < 32 || (unsigned char)buffer[i] > 126) buffer[i] = '.';
    fprintf(stderr, "load: waited for %s, got: %.*s\n", wanted, (int)size, buffer);
    exit(1);
}

// --- subscribers ---------------------------------------------------------------------------------------------------------------

static enum wire wire;
static int port_of_subscribers, poller;
static const char *room, *token;
static struct connection *connections;
static int connected, ready_count, closed_count;
static uint64_t received, measured;
static _Atomic uint64_t measure_from = UINT64_MAX;
static uint8_t *scratch;
#define SCRATCH (1 << 20)

static void start_session(struct connection *c) {
    char text[2048];
    const char *of_session = c->token ? c->token : token, *quote = of_session[0] ? "\"" : "";
    int size = snprintf(text, sizeof text, "{\"id\":1,\"connect\":{%s%s%s}}", of_session[0] ? "\"token\":\"" : "", of_session, quote);
    if (room[0]) snprintf(text + size, sizeof text - (size_t)size, "\n{\"id\":2,\"subscribe\":{\"channel\":\"%s\"}}", room);
    send_text(c->descriptor, text);
}

// Counts the publications in some bytes by their time stamps.
static void count_publications(const uint8_t *data, size_t size) {
    uint64_t now = 0;
    const uint8_t *end = data + size;
    while ((data = memmem(data, (size_t)(end - data), "\"t\":", 4))) {
        uint64_t due = 0;
        for (data += 4; data < end && *data >= '0' && *data <= '9'; data++) due = due * 10 + (uint64_t)(*data - '0');
        received++;
        if (due < measure_from) continue;
        if (!now) now = now_ns();
        measured++;
        add_sample(now > due ? now - due : 0);
    }
}

static void note_event(struct connection *c, const uint8_t *payload, size_t size) {
    const uint8_t *end = payload + size, *at = memmem(payload, size, "\"event_id\":\"", 12);
    if (!at) return;
    uint64_t event = 0;
    for (at += 12; at < end && *at >= '0' && *at <= '9'; at++) event = event * 10 + (uint64_t)(*at - '0');
    c->event = event, c->heard_at = now_ns();
}

static void take_frame(struct connection *c, const uint8_t *payload, size_t size) {
    if (!c->ready) {
        if (memmem(payload, size, room[0] ? "\"id\":2,\"subscribe\"" : "\"id\":1,\"connect\"", room[0] ? 18 : 16)) {
            c->ready = true;
            ready_count++;
        } else if (memmem(payload, size, "\"error\"", 7)) {
            fprintf(stderr, "load: refused: %.*s\n", (int)size, (const char *)payload);
            exit(1);
        }
    }
    if (size >= 2 && ((payload[0] == '{' && payload[1] == '}') || memmem(payload, size, "\n{}", 3))) send_text(c->descriptor, "{}");
    if (c->token) note_event(c, payload, size);
    else count_publications(payload, size);
}

// Takes the whole frames off the front; returns how many bytes they were.
static size_t take_frames(struct connection *c, const uint8_t *data, size_t size) {
    size_t at = 0;
    while (size - at >= 2) {
        uint64_t length = data[at + 1] & 0x7f;
        size_t head = 2;
        if (length == 126) {
            if (size - at < 4) break;
            length = (uint64_t)data[at + 2] << 8 | data[at + 3], head = 4;
        } else if (length == 127) {
            if (size - at < 10) break;
            length = 0, head = 10;
            for (int i = 2; i < 10; i++) length = length << 8 | data[at + (size_t)i];
        }
        if (size - at - head < length) break;
        int opcode = data[at] & 0x0f;
        if (opcode == 1) take_frame(c, data + at + head, length);
        if (opcode == 8) c->closed = true;
        at += head + length;
    }
    return at;
}

static void take_bytes(struct connection *c, uint8_t *data, size_t size) {
    if (wire != WEBSOCKET) {
        if (!c->ready) c->ready = true, ready_count++;
        // A time stamp that is cut in two by the kernel would be lost: hold back what follows the last line's end.
        uint8_t *end = memrchr(data, '\n', size);
        size_t whole = end ? (size_t)(end - data) + 1 : 0;
        count_publications(data, whole);
        c->held_size = (uint32_t)(size - whole);
        free(c->held);
        c->held = NULL;
        if (c->held_size) {
            c->held = malloc(c->held_size);
            memcpy(c->held, data + whole, c->held_size);
        }
        return;
    }
    size_t used = 0;
    if (!c->upgraded) {
        uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
        if (end) {
            if (memcmp(data, "HTTP/1.1 101", 12)) {
                fprintf(stderr, "load: no upgrade: %.40s\n", (char *)data);
                exit(1);
            }
            c->upgraded = true;
            used = (size_t)(end - data) + 4;
            start_session(c);
        }
    }
    if (c->upgraded) used += take_frames(c, data + used, size - used);
    uint8_t *rest = NULL;
    if (size - used) {
        rest = malloc(size - used);
        memcpy(rest, data + used, size - used);
    }
    free(c->held);
    c->held = rest;
    c->held_size = (uint32_t)(size - used);
}

static void read_connection(struct connection *c) {
    for (;;) {
        memcpy(scratch, c->held, c->held_size);
        ssize_t got = recv(c->descriptor, scratch + c->held_size, SCRATCH - c->held_size, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (got > 0) {
            size_t room_left = SCRATCH - c->held_size;
            take_bytes(c, scratch, c->held_size + (size_t)got);
            if ((size_t)got == room_left) continue;
        }
        if (got <= 0 || c->closed) {
            epoll_ctl(poller, EPOLL_CTL_DEL, c->descriptor, NULL);
            close(c->descriptor);
            closed_count++;
        }
        return;
    }
}

static void turn(int milliseconds) {
    struct epoll_event events[256];
    int count = epoll_wait(poller, events, 256, milliseconds);
    for (int i = 0; i < count; i++) read_connection(events[i].data.ptr);
}

static void open_connections(int wanted) {
    uint64_t give_up = now_ns() + 120ull * 1000000000ull;
    while (ready_count < wanted) {
        if (connected < wanted && connected - ready_count < 256) {
            struct connection *c = &connections[connected++];
            int port = c->port ? c->port : port_of_subscribers;
            c->descriptor = dial(port);
            struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
            if (epoll_ctl(poller, EPOLL_CTL_ADD, c->descriptor, &event)) die("epoll_ctl");
            if (wire == WEBSOCKET) send_upgrade(c->descriptor, port);
            if (wire == LINES) write_all(c->descriptor, "S\n", 2);
            if (wire == REDIS) {
                char text[256];
                int size = snprintf(text, sizeof text, "*2\r\n$9\r\nSUBSCRIBE\r\n$%zu\r\n%s\r\n", strlen(room), room);
                write_all(c->descriptor, text, (size_t)size);
            }
            turn(0);
        } else {
            turn(100);
        }
        if (closed_count) die("a connection was closed while connecting");
        if (now_ns() > give_up) die("not all connections were ready within 120 s");
    }
}

// --- publisher -------------------------------------------------------------------------------------------------------------------

static int publisher_port, payload_size;
static double rate, seconds, warm_up;
static const char *publisher_token;
static _Atomic uint64_t published, published_measured, refused, publisher_done;
static uint64_t begin_at;

static void *publish(void *unused) {
    (void)unused;
    int descriptor = dial(publisher_port);
    static char text[70000], data[66000], answer[65536];
    static uint8_t frame[70100];
    if (wire == WEBSOCKET) {
        send_upgrade(descriptor, publisher_port);
        expect(descriptor, "\r\n\r\n");
        snprintf(text, sizeof text, "{\"id\":1,\"connect\":{\"token\":\"%s\"}}", publisher_token);
        send_text(descriptor, text);
        expect(descriptor, "\"connect\"");
    } else if (wire == LINES) {
        write_all(descriptor, "P\n", 2);
    }
    begin_at = now_ns() + 50000000ull;
    uint64_t total = (uint64_t)(rate * (warm_up + seconds)), first = (uint64_t)(rate * warm_up);
    measure_from = begin_at + (uint64_t)((double)first / rate * 1e9);
    for (uint64_t i = 0; i < total; i++) {
        uint64_t due = begin_at + (uint64_t)((double)i / rate * 1e9);
        struct timespec at = {.tv_sec = (time_t)(due / 1000000000ull), .tv_nsec = (long)(due % 1000000000ull)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {}
        int size = snprintf(data, sizeof data, "{\"t\":%llu,\"s\":%llu,\"d\":\"", (unsigned long long)due, (unsigned long long)i);
        while (size < payload_size - 2) data[size] = (char)('a' + size % 26), size++;
        data[size++] = '"', data[size++] = '}', data[size] = 0;
        if (wire == WEBSOCKET) {
            int length = snprintf(text, sizeof text, "{\"id\":%llu,\"publish\":{\"channel\":\"%s\",\"data\":%s}}",
                                  (unsigned long long)i + 2, room, data);
            write_all(descriptor, frame, text_frame(frame, text, (size_t)length));
        } else if (wire == LINES) {
            data[size++] = '\n';
            write_all(descriptor, data, (size_t)size);
        } else {
            int length = snprintf(text, sizeof text, "*3\r\n$7\r\nPUBLISH\r\n$%zu\r\n%s\r\n$%d\r\n%s\r\n", strlen(room), room, size, data);
            write_all(descriptor, text, (size_t)length);
        }
        published++;
        if (due >= measure_from) published_measured++;
        for (ssize_t got; (got = recv(descriptor, answer, sizeof answer, MSG_DONTWAIT)) > 0;) {
            for (const char *at_error = answer; (at_error = memmem(at_error, (size_t)(answer + got - at_error), "\"error\"", 7)); at_error += 7)
                refused++;
            if (wire == WEBSOCKET && (memmem(answer, (size_t)got, "\x02{}", 3) || memmem(answer, (size_t)got, "\n{}", 3)))
                send_text(descriptor, "{}");
        }
    }
    publisher_done = 1;
    // The descriptor stays open until the process ends: closing it would end the session while it is still being served.
    return NULL;
}

static void measure(void) {
    const char *protocol = text_option("wire", "websocket"), *pids = text_option("pids", "");
    wire = !strcmp(protocol, "redis") ? REDIS : !strcmp(protocol, "lines") ? LINES : WEBSOCKET;
    port_of_subscribers = (int)number_option("port", 8000);
    publisher_port = (int)number_option("publisher-port", port_of_subscribers);
    int count = (int)number_option("connections", 1);
    room = text_option("room", "room:bench"), token = text_option("token", ""), publisher_token = text_option("publisher-token", token);
    rate = number_option("rate", 100), seconds = number_option("seconds", 3), warm_up = number_option("warm-up", 0.5);
    payload_size = (int)number_option("payload", 128);
    if (payload_size < 64 || payload_size > 65000 || rate <= 0 || count < 1) die("payload=64…65000, rate > 0, connections > 0");
    connections = calloc((size_t)count, sizeof *connections);
    open_connections(count);
    pthread_t thread;
    if (pthread_create(&thread, NULL, publish, NULL)) die("pthread_create");
    uint64_t cpu_before = 0, from = 0, until = 0;
    while (!until || now_ns() < until) {
        turn(20);
        uint64_t now = now_ns();
        if (!from && now >= measure_from) from = now, cpu_before = cpu_ns(pids);
        if (publisher_done && !until) until = now + 3000000000ull;  // what is still on its way may take so long
        if (publisher_done && measured >= published_measured * (uint64_t)(count - closed_count)) break;
    }
    double wall = (double)(now_ns() - from) / 1e9, cpu = (double)(cpu_ns(pids) - cpu_before) / 1e3;
    uint64_t expected = published_measured * (uint64_t)count;
    printf("{\"connections\":%d,\"rate\":%g,\"payload\":%d,\"published\":%llu,\"deliveries\":%llu,\"missing\":%lld,\"refused\":%llu,"
           "\"closed\":%d,\"deliveries_per_s\":%.0f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,\"cpu_us_per_delivery\":%.3f}\n",
           count, rate, payload_size, (unsigned long long)published_measured, (unsigned long long)measured,
           (long long)expected - (long long)measured, (unsigned long long)refused, closed_count, (double)measured / wall,
           quantile_ms(0.5), quantile_ms(0.99), (double)longest / 1e6, measured ? cpu / (double)measured : 0);
}

static void idle(void) {
    const char *pid = text_option("pids", "");
    char steps[256];
    snprintf(steps, sizeof steps, "%s", text_option("steps", "1000,10000"));
    wire = WEBSOCKET;
    port_of_subscribers = (int)number_option("port", 8000);
    room = text_option("room", ""), token = text_option("token", "");
    double settle = number_option("settle", 2);
    int most = 0;
    for (char *step = steps; step; step = strchr(step, ',') ? strchr(step, ',') + 1 : NULL)
        if (atoi(step) > most) most = atoi(step);
    connections = calloc((size_t)most, sizeof *connections);
    double before = memory_kib(pid);
    printf("{\"empty_kib\":%.0f,\"steps\":[", before);
    const char *separator = "";
    for (char *save, *step = strtok_r(steps, ",", &save); step; step = strtok_r(NULL, ",", &save)) {
        uint64_t begun = now_ns();
        int opened = connected;
        open_connections(atoi(step));
        double took = (double)(now_ns() - begun) / 1e9;
        for (uint64_t until = now_ns() + (uint64_t)(settle * 1e9); now_ns() < until;) turn(50);
        double kib = memory_kib(pid);
        printf("%s{\"connections\":%d,\"rss_kib\":%.0f,\"kib_per_connection\":%.3f,\"connects_per_s\":%.0f,\"closed\":%d}", separator, connected,
               kib, (kib - before) / connected, (connected - opened) / took, closed_count);
        separator = ",";
    }
    printf("]}\n");
}

static int read_users(const char *name) {
    FILE *file = fopen(name, "r");
    char line[2048], user_token[2000];
    int count = 0, capacity = 0, port;
    if (!file) die(name);
    while (fgets(line, sizeof line, file) && sscanf(line, "%d %1999s", &port, user_token) == 2) {
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 1024;
            connections = realloc(connections, (size_t)capacity * sizeof *connections);
        }
        connections[count++] = (struct connection){.port = port, .token = strdup(user_token)};
    }
    fclose(file);
    return count;
}

static void listen_for_events(void) {
    wire = WEBSOCKET, room = "", token = "";
    int count = read_users(text_option("users", ""));
    double patience = number_option("patience", 30);
    open_connections(count);
    printf("ready\n");
    fflush(stdout);
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    for (;;) {
        turn(20);
        if (poll(&input, 1, 0) <= 0) continue;
        char line[128];
        unsigned long long event, from;
        if (!fgets(line, sizeof line, stdin) || sscanf(line, "%llu %llu", &event, &from) != 2) return;
        int missing = count;
        for (uint64_t until = now_ns() + (uint64_t)(patience * 1e9); missing && now_ns() < until;) {
            turn(20);
            missing = 0;
            for (int i = 0; i < count; i++) missing += connections[i].event != event;
        }
        memset(buckets, 0, sizeof buckets);
        samples = longest = 0;
        for (int i = 0; i < count; i++)
            if (connections[i].event == event) add_sample(connections[i].heard_at > from ? connections[i].heard_at - from : 0);
        printf("{\"online\":%d,\"missing\":%d,\"closed\":%d,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"last_ms\":%.3f}\n", count, missing,
               closed_count, quantile_ms(0.5), quantile_ms(0.99), (double)longest / 1e6);
        fflush(stdout);
    }
}

// --- the ceiling ---------------------------------------------------------------------------------------------------------------

static void ceiling(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, count = 0;
    struct sockaddr_in at = address(port);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1024)) die("listen");
    int *subscribers = calloc(1 << 16, sizeof *subscribers), publisher = -1;
    size_t held = 0;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    printf("listening\n");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[64];
        int ready = epoll_wait(poller, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            int descriptor = events[i].data.fd;
            if (descriptor == listener) {
                int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                if (accepted < 0) continue;
                setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event.data.fd = accepted;
                epoll_ctl(poller, EPOLL_CTL_ADD, accepted, &event);
                continue;
            }
            ssize_t got = recv(descriptor, scratch + (descriptor == publisher ? held : 0), SCRATCH / 2, MSG_DONTWAIT);
            if (got <= 0) {
                close(descriptor);
                if (descriptor == publisher) publisher = -1;
                for (int s = 0; s < count; s++)
                    if (subscribers[s] == descriptor) subscribers[s--] = subscribers[--count];
                continue;
            }
            if (descriptor != publisher) {
                if (scratch[0] == 'S' && count < 1 << 16) {
                    subscribers[count++] = descriptor;
                    send(descriptor, "ok\n", 3, MSG_NOSIGNAL | MSG_DONTWAIT);
                } else if (scratch[0] == 'P') {
                    publisher = descriptor, held = 0;
                }
                continue;
            }
            // One send() per subscriber and publication; a line is a publication.
            size_t size = held + (size_t)got, start = 0;
            for (uint8_t *end; (end = memchr(scratch + start, '\n', size - start)); start = (size_t)(end - scratch) + 1)
                for (int s = 0; s < count; s++)
                    send(subscribers[s], scratch + start, (size_t)(end - scratch) + 1 - start, MSG_NOSIGNAL | MSG_DONTWAIT);
            held = size - start;
            memmove(scratch, scratch + start, held);
            if (held > SCRATCH / 4) held = 0;
        }
    }
}

int main(int argc, char **argv) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(EPOLL_CLOEXEC);
    scratch = malloc(SCRATCH);
    option_list = argv + 2, option_count = argc - 2;
    if (argc == 3 && !strcmp(argv[1], "ceiling")) ceiling(atoi(argv[2]));
    else if (argc >= 2 && !strcmp(argv[1], "measure")) measure();
    else if (argc >= 2 && !strcmp(argv[1], "idle")) idle();
    else if (argc >= 2 && !strcmp(argv[1], "listen")) listen_for_events();
    else {
        fprintf(stderr, "usage: load ceiling PORT | load measure KEY=VALUE… | load idle KEY=VALUE… | load listen users=FILE\n");
        return 64;
    }
    return 0;
}
