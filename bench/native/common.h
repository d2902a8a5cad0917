/* What the programs of the bench share: a clock, sockets, samples, requests, a reply parser. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define STAMP_DIGITS 19

static inline int64_t now_ns(void) {
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment); /* One clock for all processes of the machine. */
    return moment.tv_sec * SECOND + moment.tv_nsec;
}

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

static inline void *grown(void *memory, size_t size) {
    void *more = realloc(memory, size);
    if (!more) die("memory");
    return more;
}

/* Everybody needs many descriptors, timers that are exact, and no signal for a closed socket. */
static inline void process_prepare(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    prctl(PR_SET_TIMERSLACK, 1);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* Nothing of a bench outlives it. */
    signal(SIGPIPE, SIG_IGN);
}

static inline struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static inline int connect_to(int port) {
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(port);
    if (fd < 0) die("socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

static inline int wait_for_events(int poll, struct epoll_event *events, int most, int64_t until) {
    int64_t left = until - now_ns();
    if (left < 0) left = 0;
    struct timespec timeout = {.tv_sec = left / SECOND, .tv_nsec = left % SECOND};
    int found = epoll_pwait2(poll, events, most, &timeout, NULL);
    if (found < 0 && errno != EINTR) die("epoll_pwait2");
    return found < 0 ? 0 : found;
}

/* --- Samples: all of them are kept, so that percentiles are exact. ---------------------------- */

struct samples {
    float *values; /* In microseconds. */
    size_t count, room;
};

static inline void sample_add(struct samples *to, double value) {
    if (to->count == to->room) {
        to->room = to->room ? 2 * to->room : 65536;
        to->values = grown(to->values, to->room * sizeof *to->values);
    }
    to->values[to->count++] = (float)value;
}

static inline int compare_floats(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

/* The smallest value that so large a share of the (sorted) samples does not exceed. */
static inline double percentile(const struct samples *from, double share) {
    if (!from->count) return 0;
    size_t rank = (size_t)(share * (double)from->count + 0.999999);
    if (rank < 1) rank = 1;
    if (rank > from->count) rank = from->count;
    return from->values[rank - 1];
}

static inline void samples_print(const char *name, struct samples *of) {
    qsort(of->values, of->count, sizeof *of->values, compare_floats);
    printf("\"%s\": {\"count\": %zu, \"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p999\": %.1f, "
           "\"max\": %.1f}",
           name, of->count, percentile(of, .5), percentile(of, .9), percentile(of, .99),
           percentile(of, .999), percentile(of, 1));
}

/* --- Requests: a file of rendered ones, each behind a line with its length. ------------------- */

struct requests {
    char **data;
    size_t *size;
    size_t count;
};

static inline struct requests requests_read(const char *path) {
    struct requests all = {0};
    FILE *file = fopen(path, "rb");
    size_t size;
    if (!file) die(path);
    while (fscanf(file, "%zu", &size) == 1 && fgetc(file) == '\n') {
        all.data = grown(all.data, (all.count + 1) * sizeof *all.data);
        all.size = grown(all.size, (all.count + 1) * sizeof *all.size);
        all.data[all.count] = grown(NULL, size);
        all.size[all.count] = size;
        if (fread(all.data[all.count++], 1, size, file) != size) die("a short request");
    }
    if (!all.count) die("no requests");
    fclose(file);
    return all;
}

/* --- A reply as it comes: by length, in chunks, or until the connection ends. ------------------ */

enum reply_part { HEAD, LENGTH, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER, UNTIL_CLOSE, COMPLETE };

struct reply {
    enum reply_part part;
    int status;
    bool closes;
    size_t left;   /* Of the body or the chunk. */
    size_t length; /* Of the line or the head that is gathered. */
    char text[16384];
};

typedef void reply_body(void *owner, const char *data, size_t size);

static inline const char *head_value(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, name, length) && line[length] == ':') {
            line += length + 1;
            return line + strspn(line, " ");
        }
    }
    return NULL;
}

static inline void reply_head(struct reply *reply) {
    const char *length = head_value(reply->text, "content-length");
    const char *coding = head_value(reply->text, "transfer-encoding");
    const char *fate = head_value(reply->text, "connection");
    reply->status = atoi(reply->text + strcspn(reply->text, " "));
    reply->closes = fate && !strncasecmp(fate, "close", 5);
    reply->left = length ? strtoul(length, NULL, 10) : 0;
    if (coding && !strncasecmp(coding, "chunked", 7)) {
        reply->part = CHUNK_SIZE;
    } else {
        reply->part = !length ? UNTIL_CLOSE : reply->left ? LENGTH : COMPLETE;
    }
    reply->length = 0;
}

static inline void reply_line(struct reply *reply) {
    if (reply->part == HEAD) {
        if (reply->length >= 4 && !memcmp(reply->text + reply->length - 4, "\r\n\r\n", 4))
            reply_head(reply);
        return;
    }
    if (reply->part == CHUNK_SIZE) {
        reply->left = strtoul(reply->text, NULL, 16);
        reply->part = reply->left ? CHUNK : TRAILER;
    } else if (reply->part == CHUNK_END) {
        reply->part = CHUNK_SIZE;
    } else if (reply->length == 2) { /* The empty line behind the trailer. */
        reply->part = COMPLETE;
    }
    reply->length = 0;
}

/* Take what belongs to this reply and return how much that was, or -1 if it is no HTTP. */
static inline ssize_t reply_feed(struct reply *reply, const char *data, size_t size,
                                 reply_body *body, void *owner) {
    size_t taken = 0;
    while (taken < size && reply->part != COMPLETE) {
        size_t rest = size - taken;
        if (reply->part == LENGTH || reply->part == CHUNK || reply->part == UNTIL_CLOSE) {
            size_t piece = reply->part == UNTIL_CLOSE || rest < reply->left ? rest : reply->left;
            if (body) body(owner, data + taken, piece);
            taken += piece;
            if (reply->part == UNTIL_CLOSE) continue;
            reply->left -= piece;
            if (!reply->left) reply->part = reply->part == LENGTH ? COMPLETE : CHUNK_END;
            continue;
        }
        const char *end = memchr(data + taken, '\n', rest);
        size_t piece = end ? (size_t)(end - data - taken) + 1 : rest;
        if (reply->length + piece >= sizeof reply->text) return -1;
        memcpy(reply->text + reply->length, data + taken, piece);
        reply->length += piece;
        reply->text[reply->length] = 0;
        taken += piece;
        if (end) reply_line(reply);
    }
    return (ssize_t)taken;
}

#endif
