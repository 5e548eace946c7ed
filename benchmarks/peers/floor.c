/* The floor in C: read a message from Redis, send a frame to every socket, nothing else. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TOPICS = 65536, MOST = 70000, SIZE = 1 << 20 };

static struct topic { char name[64]; int *viewers, count, room; } topics[TOPICS];
static struct topic *topic_of[MOST];
static char input[SIZE];
static int redis, epoll;
static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
static const char PLAIN[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

static struct topic *find(const char *name, int length) {
    uint32_t hash = 2166136261u;
    for (int i = 0; i < length; i++) hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    for (;; hash++) {
        struct topic *t = &topics[hash % TOPICS];
        if (!*t->name) memcpy(t->name, name, length);
        if (!strncmp(t->name, name, length) && !t->name[length]) return t;
    }
}

static int dial(int port, int serve) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (serve ? bind(fd, (void *)&address, sizeof address) || listen(fd, 4096)
              : connect(fd, (void *)&address, sizeof address)) {
        perror("floor");
        exit(1);
    }
    struct epoll_event event = {EPOLLIN, {.fd = fd}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    return fd;
}

static void leave(int fd) {
    struct topic *t = topic_of[fd];
    for (int i = 0; t && i < t->count; i++)
        if (t->viewers[i] == fd) t->viewers[i] = t->viewers[--t->count];
    topic_of[fd] = NULL;
    close(fd);
}

static void answer(int fd) {
    char request[4096], *name;
    ssize_t n = recv(fd, request, sizeof request - 1, 0);
    request[n > 0 ? n : 0] = 0;
    if (n <= 0 || !(name = strstr(request, "/events/"))) {
        if (n > 0) send(fd, PLAIN, sizeof PLAIN - 1, MSG_NOSIGNAL);
        leave(fd);
        return;
    }
    name += 8;
    struct topic *t = find(name, strcspn(name, " "));
    if (!t->room) dprintf(redis, "*2\r\n$9\r\nSUBSCRIBE\r\n$%zu\r\n%s\r\n", strlen(t->name), t->name);
    if (t->count == t->room) t->viewers = realloc(t->viewers, (t->room = t->room ? t->room * 2 : 4) * sizeof(int));
    t->viewers[t->count++] = fd;
    topic_of[fd] = t;
    send(fd, HEAD, sizeof HEAD - 1, MSG_NOSIGNAL);
}

/* Every answer of a subscribed connection is an array of three: kind, channel, payload or a number. */
static char *reply(char *p, char *end) {
    char *part[3];
    long length[3];
    if (end - p < 4) return NULL;
    p += 4;
    for (int i = 0; i < 3; i++) {
        char *line = memchr(p, '\n', end - p);
        if (!line) return NULL;
        length[i] = *p == '$' ? atol(p + 1) : -2;
        part[i] = line + 1;
        p = line + 1 + length[i] + 2;
        if (p > end) return NULL;
    }
    if (length[2] >= 0 && length[0] == 7) {
        static char frame[SIZE];
        struct topic *t = find(part[1], length[1]);
        memcpy(frame, "data: ", 6);
        memcpy(frame + 6, part[2], length[2]);
        memcpy(frame + 6 + length[2], "\n\n", 2);
        for (int i = 0; i < t->count; i++) send(t->viewers[i], frame, length[2] + 8, MSG_NOSIGNAL);
    }
    return p;
}

static void publish(void) {
    static size_t filled;
    ssize_t n = recv(redis, input + filled, SIZE - filled, 0);
    if (n <= 0) exit(1);
    filled += n;
    char *p = input, *next;
    while ((next = reply(p, input + filled))) p = next;
    filled -= p - input;
    memmove(input, p, filled);
}

int main(int argc, char **argv) {
    struct epoll_event events[256];
    if (argc != 3) return 2;
    epoll = epoll_create1(0);
    int server = dial(atoi(argv[1]), 1), yes = 1;
    redis = dial(atoi(argv[2]), 0);
    for (;;) {
        int n = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == redis) publish();
            else if (fd != server) answer(fd);
            else {
                struct epoll_event event = {EPOLLIN, {.fd = accept(server, NULL, NULL)}};
                setsockopt(event.data.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
            }
        }
    }
}
