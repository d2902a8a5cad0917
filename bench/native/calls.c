/* Plain calls: calls RATE CONNECTIONS WARM_SECONDS SECONDS STATUS PORT REQUESTS [PORT REQUESTS]
 *
 * RATE 0 is a closed loop: each connection calls again as soon as it is answered. Otherwise calls
 * are due at a fixed rate, whatever became of those before them, and their latency counts from when
 * they were due. With two targets, the calls of the odd turns go to the second one, at the same
 * rate each; the difference is between neighbours. Prints `begin` and `end` around what is
 * measured, then the result.
 */
#include "common.h"

#define GRACE_SECONDS 10
#define NOBODY (-1.0f)

struct target {
    int port;
    struct requests requests;
    size_t next;
    struct client *clients, *idle; /* A list, the one that was used last first. */
    int64_t *queue;                /* Turns that wait for a connection. */
    size_t queue_begin, queue_end;
    struct samples latencies;
    long completed, unexpected, errors, running;
};

struct client {
    int fd;
    struct target *target;
    struct client *next;
    struct reply reply;
    int64_t due_ns, turn;
    bool running;
};

static int poll_fd, expected_status;
static double rate;
static int64_t begin_ns, end_ns, start_ns, turns;
static bool measuring, stopping;
static float *by_turn; /* Latencies of what was due while measuring, for the differences. */

static int64_t due_of(int64_t turn) { return start_ns + (int64_t)((double)turn * SECOND / rate); }

static void begin(struct client *client, int64_t turn, int64_t due_ns) {
    struct target *target = client->target;
    size_t number = target->next++ % target->requests.count;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    if (client->fd < 0) {
        client->fd = connect_to(target->port);
        if (client->fd < 0) die("connect");
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, client->fd, &event);
    }
    memset(&client->reply, 0, offsetof(struct reply, text));
    client->turn = turn;
    client->due_ns = due_ns;
    client->running = true;
    target->running++;
    const char *data = target->requests.data[number];
    for (size_t left = target->requests.size[number]; left;) {
        ssize_t sent = send(client->fd, data, left, 0);
        if (sent < 0 && errno != EAGAIN) return; /* The reading side will see why. */
        if (sent > 0) data += sent, left -= (size_t)sent;
    }
}

static void release(struct client *client) {
    struct target *target = client->target;
    if (rate > 0 && target->queue_begin < target->queue_end) {
        int64_t turn = target->queue[target->queue_begin++];
        begin(client, turn, due_of(turn));
    } else if (rate > 0 || stopping) {
        client->next = target->idle;
        target->idle = client;
    } else {
        begin(client, 0, now_ns());
    }
}

static void finish(struct client *client, bool whole) {
    struct target *target = client->target;
    int64_t now = now_ns();
    double latency_us = (double)(now - client->due_ns) / 1000;
    client->running = false;
    target->running--;
    bool counts = rate > 0 ? client->due_ns >= begin_ns && client->due_ns < end_ns : measuring;
    if (measuring) target->completed++;
    if (!whole) target->errors++;
    else if (client->reply.status != expected_status) target->unexpected++;
    else if (counts) {
        sample_add(&target->latencies, latency_us);
        if (by_turn) by_turn[client->turn] = (float)latency_us;
    }
    if (!whole || client->reply.closes) {
        close(client->fd);
        client->fd = -1;
    }
    release(client);
}

static void receive(struct client *client) {
    static char data[262144];
    ssize_t got = recv(client->fd, data, sizeof data, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (!client->running) { /* The server has closed an idle connection. */
        close(client->fd);
        client->fd = -1;
        return;
    }
    if (got <= 0) {
        finish(client, got == 0 && client->reply.part == UNTIL_CLOSE);
        return;
    }
    ssize_t taken = reply_feed(&client->reply, data, (size_t)got, NULL, NULL);
    if (taken < 0) finish(client, false);
    else if (client->reply.part == COMPLETE) finish(client, taken == got);
}

static void call_when_due(struct target *targets, int count) {
    for (int64_t now = now_ns(); !stopping && due_of(turns) <= now; turns++) {
        struct target *target = &targets[turns % count];
        struct client *client = target->idle;
        if (!client) {
            target->queue[target->queue_end++] = turns;
            continue;
        }
        target->idle = client->next;
        begin(client, turns, due_of(turns));
    }
}

static void target_open(struct target *target, char **arguments, int connections, int64_t most) {
    target->port = atoi(arguments[0]);
    target->requests = requests_read(arguments[1]);
    target->clients = calloc((size_t)connections, sizeof *target->clients);
    target->queue = most ? grown(NULL, (size_t)most * sizeof *target->queue) : NULL;
    for (int i = 0; i < connections; i++) {
        target->clients[i].fd = -1;
        target->clients[i].target = target;
        release(&target->clients[i]);
    }
}

static void print_target(struct target *target) {
    printf("{\"completed\": %ld, \"unexpected\": %ld, \"errors\": %ld, \"unanswered\": %ld, ",
           target->completed, target->unexpected, target->errors,
           target->running + (long)(target->queue_end - target->queue_begin));
    samples_print("latency_us", &target->latencies);
    printf("}");
}

static void print_difference(void) {
    struct samples differences = {0};
    for (int64_t turn = 0; turn + 1 < turns; turn += 2)
        if (by_turn[turn] != NOBODY && by_turn[turn + 1] != NOBODY)
            sample_add(&differences, by_turn[turn + 1] - by_turn[turn]);
    printf(", ");
    samples_print("difference_us", &differences);
}

static void mark(int64_t now) {
    if (!measuring && !stopping && now >= begin_ns) {
        measuring = true;
        puts("begin");
    }
    if (measuring && now >= end_ns) {
        measuring = false;
        stopping = true;
        puts("end");
    }
    fflush(stdout);
}

int main(int count, char **arguments) {
    if (count != 8 && count != 10)
        die("usage: calls RATE CONNECTIONS WARM_SECONDS SECONDS STATUS PORT REQUESTS [PORT REQUESTS]");
    process_prepare();
    int target_count = (count - 6) / 2;
    struct target targets[2] = {0};
    rate = atof(arguments[1]) * target_count;
    expected_status = atoi(arguments[5]);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    double warm = atof(arguments[3]), seconds = atof(arguments[4]);
    int64_t most = rate > 0 ? (int64_t)(rate * (warm + seconds + 1)) + 16 : 0;
    if (target_count == 2) {
        by_turn = grown(NULL, (size_t)most * sizeof *by_turn);
        for (int64_t i = 0; i < most; i++) by_turn[i] = NOBODY;
    }
    start_ns = now_ns();
    begin_ns = start_ns + (int64_t)(warm * SECOND);
    end_ns = begin_ns + (int64_t)(seconds * SECOND);
    for (int i = 0; i < target_count; i++)
        target_open(&targets[i], arguments + 6 + 2 * i, atoi(arguments[2]), most);
    for (struct epoll_event events[512];;) {
        int64_t now = now_ns(), until = now + SECOND / 100;
        if (rate > 0 && !stopping && due_of(turns) < until) until = due_of(turns);
        int found = wait_for_events(poll_fd, events, 512, until);
        for (int i = 0; i < found; i++) receive(events[i].data.ptr);
        if (rate > 0) call_when_due(targets, target_count);
        mark(now = now_ns());
        bool idle = !targets[0].running && !targets[1].running;
        if (stopping && (idle || now >= end_ns + GRACE_SECONDS * SECOND)) break;
    }
    printf("{\"targets\": [");
    for (int i = 0; i < target_count; i++) {
        if (i) printf(", ");
        print_target(&targets[i]);
    }
    printf("]");
    if (by_turn) print_difference();
    printf("}\n");
    return 0;
}
