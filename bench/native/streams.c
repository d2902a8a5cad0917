/* Holds streams open: streams PORT REQUESTS OPEN WARM_SECONDS SECONDS
 *
 * As soon as one ends, the next begins. Prints `begin` and `end` around what is measured, then the
 * result: streams, chunks, errors, and how far the chunks were behind the times they carry. At the
 * end no stream is begun any more, and those that run come to their end.
 */
#include "common.h"

#define MARK '@'
#define GRACE_SECONDS 10
#define RAMP_SECONDS 1

struct client {
    int fd;
    size_t next; /* Which of the requests. */
    struct reply reply;
    char stamp[STAMP_DIGITS]; /* It may come in two pieces. */
    int digits;               /* -1: not in a stamp. */
    bool running, done_seen;
    char tail[16];
};

static int port, poll_fd, open_clients;
static struct requests requests;
static struct samples lags;
static int64_t begin_ns, end_ns, opened_ns;
static long streams, chunks, errors;
static bool measuring, stopping;

static void stamp_complete(struct client *client) {
    char text[STAMP_DIGITS + 1] = "";
    memcpy(text, client->stamp, STAMP_DIGITS);
    if (!measuring) return;
    chunks++;
    sample_add(&lags, (double)(now_ns() - strtoll(text, NULL, 10)) / 1000);
}

static void body(void *owner, const char *data, size_t size) {
    struct client *client = owner;
    for (size_t i = 0; i < size; i++) {
        if (client->digits < 0) {
            const char *mark = memchr(data + i, MARK, size - i);
            if (!mark) break;
            i = (size_t)(mark - data);
            client->digits = 0;
        } else if (data[i] >= '0' && data[i] <= '9' && client->digits < STAMP_DIGITS) {
            client->stamp[client->digits++] = data[i];
        } else {
            if (data[i] == MARK && client->digits == STAMP_DIGITS) stamp_complete(client);
            client->digits = -1;
        }
    }
    /* What came last, to see whether it was the end that a client waits for. */
    size_t kept = sizeof client->tail, part = size < kept ? size : kept;
    memmove(client->tail, client->tail + part, kept - part);
    memcpy(client->tail + kept - part, data + size - part, part);
}

static void begin(struct client *client) {
    size_t number = client->next++ % requests.count;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    client->running = false;
    if (stopping) return;
    if (client->fd < 0) {
        client->fd = connect_to(port);
        if (client->fd < 0) {
            errors++;
            return;
        }
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, client->fd, &event);
    }
    memset(&client->reply, 0, offsetof(struct reply, text));
    client->digits = -1;
    client->running = true;
    if (send(client->fd, requests.data[number], requests.size[number], 0) !=
        (ssize_t)requests.size[number])
        errors++;
}

static void finish(struct client *client, bool whole) {
    bool good = whole && client->reply.status == 200 && memmem(client->tail, 16, "[DONE]", 6);
    if (!good) errors++;
    if (good && measuring) streams++;
    memset(client->tail, 0, sizeof client->tail);
    if (!whole || client->reply.closes) {
        close(client->fd);
        client->fd = -1;
    }
    begin(client);
}

static void receive(struct client *client) {
    static char data[262144];
    ssize_t got = recv(client->fd, data, sizeof data, 0), at = 0, taken;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        finish(client, client->reply.part == UNTIL_CLOSE);
        return;
    }
    while (at < got && client->running) {
        taken = reply_feed(&client->reply, data + at, (size_t)(got - at), body, client);
        if (taken < 0) {
            finish(client, false);
            return;
        }
        at += taken;
        if (client->reply.part == COMPLETE) finish(client, true);
    }
}

/* Opened one after another over a second, so that their deltas do not come all at once. */
static void open_more(struct client *clients, int wanted) {
    int64_t passed = now_ns() - opened_ns;
    int due = (int)(passed * wanted / (RAMP_SECONDS * SECOND));
    if (due > wanted) due = wanted;
    for (; open_clients < due; open_clients++) begin(&clients[open_clients]);
}

static void say(const char *what) {
    printf("%s\n", what);
    fflush(stdout);
}

static bool any_runs(struct client *clients) {
    for (int i = 0; i < open_clients; i++)
        if (clients[i].running) return true;
    return false;
}

int main(int count, char **arguments) {
    if (count != 6) die("usage: streams PORT REQUESTS OPEN WARM_SECONDS SECONDS");
    process_prepare();
    port = atoi(arguments[1]);
    requests = requests_read(arguments[2]);
    int wanted = atoi(arguments[3]);
    struct client *clients = calloc((size_t)wanted, sizeof *clients);
    for (int i = 0; i < wanted; i++) clients[i].fd = -1, clients[i].next = (size_t)i;
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    opened_ns = now_ns();
    begin_ns = opened_ns + (int64_t)(atof(arguments[4]) * SECOND);
    end_ns = begin_ns + (int64_t)(atof(arguments[5]) * SECOND);
    for (struct epoll_event events[512]; !stopping || any_runs(clients);) {
        int64_t now = now_ns();
        if (!stopping && open_clients < wanted) open_more(clients, wanted);
        int found = wait_for_events(poll_fd, events, 512, now + 2000000);
        for (int i = 0; i < found; i++) receive(events[i].data.ptr);
        now = now_ns();
        if (!measuring && !stopping && now >= begin_ns) {
            measuring = true;
            say("begin");
        }
        if (measuring && now >= end_ns) {
            measuring = false;
            stopping = true;
            say("end");
        }
        if (now >= end_ns + GRACE_SECONDS * SECOND) break;
    }
    printf("{\"streams\": %ld, \"chunks\": %ld, \"errors\": %ld, ", streams, chunks, errors);
    samples_print("lag_us", &lags);
    printf("}\n");
    return 0;
}
