/* The load generator of load.py, in C: the same commands, the same answers. See there. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { STAMP = 19, NUMBER = 8, TOKEN = 1 + STAMP + NUMBER, ROOM = 64, SIZE = 65536, MOST = 60000 };
enum state { CONNECTING, HEAD, OPEN, CLOSED };

struct viewer {
    int fd, carried, matched;
    enum state state;
    int64_t last;
    char carry[TOKEN];
};

static struct viewer viewers[MOST];
static int count, alive, waiting, failed, closed, epoll, port, await_heads, first_error;
static int64_t frames, bytes, lost, repeated, first_sent, last_received, target, reached, started;
static uint32_t *latencies;
static size_t samples, capacity;
static char request_path[512], request_header[4096], buffer[ROOM + SIZE];

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int64_t number(const char *text, int digits) {
    int64_t value = 0;
    for (int i = 0; i < digits; i++) value = value * 10 + (text[i] - '0');
    return value;
}

static void frame(struct viewer *v, const char *token, int64_t received) {
    int64_t sent = number(token + 1, STAMP), seq = number(token + 1 + STAMP, NUMBER);
    frames++;
    if (v->last >= 0 && seq > v->last + 1) lost += seq - v->last - 1;
    if (seq <= v->last) { repeated++; return; }
    if (v->last < target && seq >= target) reached++;
    v->last = seq;
    if (!first_sent || sent < first_sent) first_sent = sent;
    last_received = received;
    if (samples == capacity) {
        capacity = capacity ? capacity * 2 : 1 << 20;
        latencies = realloc(latencies, capacity * sizeof *latencies);
        if (!latencies) abort();
    }
    latencies[samples++] = (uint32_t)((received - sent) / 1000);
}

static void body(struct viewer *v, char *from, char *end, int64_t received) {
    if (v->carried) {
        from -= v->carried;
        memcpy(from, v->carry, v->carried);
        v->carried = 0;
    }
    while (from < end && (from = memchr(from, '@', end - from))) {
        if (end - from < TOKEN) {
            v->carried = end - from;
            memcpy(v->carry, from, v->carried);
            return;
        }
        if (from[1] < '0' || from[1] > '9') { from++; continue; }
        frame(v, from, received);
        from += TOKEN;
    }
}

static void drop(struct viewer *v, int error) {
    if (v->state == OPEN) { alive--; closed++; if (v->last >= target) reached--; }
    else if (v->state != CLOSED) { waiting--; failed++; if (!first_error) first_error = error; }
    close(v->fd);
    v->state = CLOSED;
}

static void opened(struct viewer *v) {
    v->state = OPEN;
    waiting--;
    alive++;
    if (v->last >= target) reached++;
}

static void receive(struct viewer *v) {
    char *from = buffer + ROOM;
    ssize_t n = recv(v->fd, from, SIZE, 0);
    if (n <= 0) {
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        drop(v, n ? errno : 0);
        return;
    }
    int64_t received = now();
    char *end = from + n;
    bytes += n;
    if (v->matched < 4) {
        if (!v->matched && n >= 12 && !memcmp(from, "HTTP/1.", 7) && memcmp(from + 9, "200", 3)) {
            drop(v, number(from + 9, 3));
            return;
        }
        while (from < end && v->matched < 4) {
            char c = *from++;
            v->matched = c == "\r\n\r\n"[v->matched] ? v->matched + 1 : c == '\r';
        }
        if (v->matched < 4) return;
        if (v->state == HEAD) opened(v);
    }
    body(v, from, end, received);
}

static void ask(struct viewer *v) {
    char text[8192], path[600];
    char *place = strstr(request_path, "{i}");
    if (place)
        snprintf(path, sizeof path, "%.*s%d%s", (int)(place - request_path), request_path, (int)(v - viewers), place + 3);
    else
        snprintf(path, sizeof path, "%s", request_path);
    int n = snprintf(text, sizeof text,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n%s%s\r\n", path, port,
                     request_header, *request_header ? "\r\n" : "");
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(v->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error || send(v->fd, text, n, MSG_NOSIGNAL) != n) { drop(v, error ? error : errno); return; }
    v->state = HEAD;
    struct epoll_event event = {EPOLLIN, {.ptr = v}};
    epoll_ctl(epoll, EPOLL_CTL_MOD, v->fd, &event);
    if (!await_heads) opened(v);
}

static void connect_one(int64_t last) {
    struct viewer *v = &viewers[count++];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memset(v, 0, sizeof *v);
    v->last = last;
    v->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    waiting++;
    if (v->fd < 0 || (connect(v->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)) {
        drop(v, errno);
        return;
    }
    int yes = 1;
    setsockopt(v->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event event = {EPOLLOUT, {.ptr = v}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, v->fd, &event);
}

/* Handle what the sockets have; return whether a command waits on standard input. */
static int turn(int milliseconds) {
    static struct epoll_event events[1024];
    int commanded = 0, n = epoll_wait(epoll, events, 1024, milliseconds);
    for (int i = 0; i < n; i++) {
        struct viewer *v = events[i].data.ptr;
        if (!v) commanded = 1;
        else if (v->state == CONNECTING) ask(v);
        else if (v->state != CLOSED) receive(v);
    }
    return commanded;
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double at(double share) { return samples ? latencies[(size_t)(share * (samples - 1))] / 1000.0 : 0; }

static void answer(int done) {
    qsort(latencies, samples, sizeof *latencies, ascending);
    printf("{\"done\": %s, \"open\": %d, \"failed\": %d, \"first_error\": %d, \"closed\": %d, \"frames\": %lld, "
           "\"bytes\": %lld, \"lost\": %lld, \"repeated\": %lld, \"started\": %lld, \"first_sent\": %lld, "
           "\"last_received\": %lld, \"now\": %lld, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f}\n",
           done ? "true" : "false", alive, failed, first_error, closed, (long long)frames, (long long)bytes,
           (long long)lost, (long long)repeated, (long long)started, (long long)first_sent,
           (long long)last_received, (long long)now(), at(0.5), at(0.99), at(1));
    fflush(stdout);
}

static void command_open(const char *line) {
    int wanted, window, timeout;
    long long last;
    char path[512];
    *request_header = 0;
    if (sscanf(line, "%d %d %d %d %lld %511s %4095[^\n]", &wanted, &window, &await_heads, &timeout, &last, path,
               request_header) < 6)
        exit(2);
    strcpy(request_path, path);
    failed = first_error = 0;
    started = now();
    int64_t deadline = started + timeout * 1000000LL;
    int until = count + wanted > MOST ? MOST : count + wanted;
    while ((count < until || waiting) && now() < deadline) {
        while (count < until && waiting < window) connect_one(last);
        turn(50);
    }
    answer(count == until && !waiting && !failed);
}

static void command_until(const char *line) {
    long long wanted;
    int timeout;
    if (sscanf(line, "%lld %d", &wanted, &timeout) != 2) exit(2);
    target = wanted;
    reached = 0;
    for (int i = 0; i < count; i++) reached += viewers[i].state == OPEN && viewers[i].last >= target;
    int64_t deadline = now() + timeout * 1000000LL;
    while (reached < alive && now() < deadline) turn(10);
    answer(reached >= alive && alive);
}

static void command(const char *line) {
    if (!strncmp(line, "open ", 5)) command_open(line + 5);
    else if (!strncmp(line, "until ", 6)) command_until(line + 6);
    else if (!strncmp(line, "stats", 5)) answer(1);
    else if (!strncmp(line, "mark", 4)) {
        frames = bytes = lost = repeated = first_sent = last_received = closed = 0;
        samples = 0;
        answer(1);
    } else if (!strncmp(line, "close", 5)) {
        for (int i = 0; i < count; i++)
            if (viewers[i].state != CLOSED) close(viewers[i].fd);
        count = alive = waiting = closed = 0;
        answer(1);
    } else exit(2);
}

int main(int argc, char **argv) {
    static char line[8192];
    size_t filled = 0;
    struct rlimit limit = {70000, 70000};
    if (argc != 2) return 2;
    port = atoi(argv[1]);
    if (setrlimit(RLIMIT_NOFILE, &limit) && !getrlimit(RLIMIT_NOFILE, &limit)) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {EPOLLIN, {.ptr = NULL}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event);
    for (;;) {
        if (!turn(-1)) continue;
        ssize_t n = read(0, line + filled, sizeof line - filled - 1);
        if (n <= 0) return 0;
        filled += n;
        line[filled] = 0;
        if (!strchr(line, '\n')) continue;
        command(line);
        filled = 0;
    }
}
