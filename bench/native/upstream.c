/* An upstream that is never the bottleneck: upstream PORT
 *
 * POST .../chat/completions gets a fixed completion with its usage. A model that is called
 * bench-stream-N-MS is streamed (if the body says so): N deltas, one each MS milliseconds, each an
 * HTTP chunk and a write of its own that carries its send time between two @ signs.
 */
#include "common.h"

#define MOST_REQUEST (8 * 1024 * 1024)
#define MOST_WAITING (1024 * 1024)
#define HEADERS                                                                                   \
    "date: Mon, 01 Jan 2024 00:00:00 GMT\r\n"                                                     \
    "access-control-expose-headers: X-Request-ID\r\n"                                             \
    "openai-organization: bench\r\n"                                                              \
    "openai-processing-ms: 12\r\n"                                                                \
    "openai-version: 2020-10-01\r\n"                                                              \
    "x-ratelimit-limit-requests: 10000\r\n"                                                       \
    "x-ratelimit-limit-tokens: 30000000\r\n"                                                      \
    "x-ratelimit-remaining-requests: 9999\r\n"                                                    \
    "x-ratelimit-remaining-tokens: 29999000\r\n"                                                  \
    "x-ratelimit-reset-requests: 6ms\r\n"                                                         \
    "x-ratelimit-reset-tokens: 0s\r\n"                                                            \
    "x-request-id: req_0123456789abcdef0123456789abcdef\r\n"                                      \
    "strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n"
#define EVENT                                                                                     \
    "data: {\"id\":\"chatcmpl-bench0123456789abcdefghijkl\",\"object\":\"chat.completion.chunk\"," \
    "\"created\":1704067200,\"model\":\"bench\",\"service_tier\":\"default\","                    \
    "\"system_fingerprint\":\"fp_0123456789\","

struct peer {
    int fd;
    char *in;
    size_t in_used, in_room;
    char *out; /* What the client was too slow to take. */
    size_t out_used, out_room;
    int64_t due_ns, pause_ns;
    int deltas_left, deltas, place; /* Place in the heap of timers; -1: it does not stream. */
    bool include_usage;
};

static int poll_fd;
static struct peer **heap; /* Streams by the time of their next delta. */
static int heap_size, heap_room;
static char reply[4096], missing[512], stream_head[2048], delta[1024];
static size_t reply_size, missing_size, stream_head_size, delta_size, stamp_at;

/* --- Timers ------------------------------------------------------------------------------------ */

static void put(int place, struct peer *peer) {
    heap[place] = peer;
    peer->place = place;
}

static void sift(int place) {
    struct peer *peer = heap[place];
    while (place && heap[(place - 1) / 2]->due_ns > peer->due_ns) {
        put(place, heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    for (int child; (child = 2 * place + 1) < heap_size; place = child) {
        if (child + 1 < heap_size && heap[child + 1]->due_ns < heap[child]->due_ns) child++;
        if (heap[child]->due_ns >= peer->due_ns) break;
        put(place, heap[child]);
    }
    put(place, peer);
}

static void timer_add(struct peer *peer) {
    if (heap_size == heap_room) {
        heap_room = heap_room ? 2 * heap_room : 1024;
        heap = grown(heap, heap_room * sizeof *heap);
    }
    put(heap_size++, peer);
    sift(peer->place);
}

static void timer_remove(struct peer *peer) {
    int place = peer->place;
    peer->place = -1;
    if (place == --heap_size) return;
    put(place, heap[heap_size]);
    sift(place);
}

/* --- Sending ----------------------------------------------------------------------------------- */

static void watch(struct peer *peer, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = peer};
    epoll_ctl(poll_fd, EPOLL_CTL_MOD, peer->fd, &event);
}

/* False: the peer has gone or takes nothing. */
static bool send_all(struct peer *peer, const char *data, size_t size) {
    if (!peer->out_used) {
        ssize_t sent = send(peer->fd, data, size, 0);
        if (sent < 0 && errno != EAGAIN) return false;
        if (sent < 0) sent = 0;
        if ((size_t)sent == size) return true;
        data += sent;
        size -= (size_t)sent;
        watch(peer, EPOLLIN | EPOLLOUT);
    }
    if (peer->out_used + size > MOST_WAITING) return false;
    if (peer->out_used + size > peer->out_room) {
        peer->out_room = 2 * (peer->out_used + size);
        peer->out = grown(peer->out, peer->out_room);
    }
    memcpy(peer->out + peer->out_used, data, size);
    peer->out_used += size;
    return true;
}

static bool flush(struct peer *peer) {
    ssize_t sent = send(peer->fd, peer->out, peer->out_used, 0);
    if (sent < 0) return errno == EAGAIN;
    peer->out_used -= (size_t)sent;
    memmove(peer->out, peer->out + sent, peer->out_used);
    if (!peer->out_used) watch(peer, EPOLLIN);
    return true;
}

static size_t event_chunk(char *to, size_t room, const char *rest) {
    char event[1024];
    int size = snprintf(event, sizeof event, EVENT "%s\n\n", rest);
    return (size_t)snprintf(to, room, "%x\r\n%s\r\n", size, event);
}

static bool send_delta(struct peer *peer) {
    int64_t now = now_ns();
    char stamp[STAMP_DIGITS + 1];
    snprintf(stamp, sizeof stamp, "%019lld", (long long)now);
    memcpy(delta + stamp_at, stamp, STAMP_DIGITS);
    return send_all(peer, delta, delta_size);
}

static bool send_end(struct peer *peer) {
    char text[4096], usage[512];
    size_t size = event_chunk(
        text, sizeof text,
        "\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}");
    if (peer->include_usage) {
        snprintf(usage, sizeof usage,
                 "\"choices\":[],\"usage\":{\"prompt_tokens\":170,\"completion_tokens\":%d,"
                 "\"total_tokens\":%d,\"prompt_tokens_details\":{\"cached_tokens\":0,"
                 "\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0,"
                 "\"audio_tokens\":0}}}",
                 peer->deltas, 170 + peer->deltas);
        size += event_chunk(text + size, sizeof text - size, usage);
    }
    size += (size_t)snprintf(text + size, sizeof text - size,
                             "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    return send_all(peer, text, size);
}

/* --- Requests ---------------------------------------------------------------------------------- */

static bool says(const char *body, size_t size, const char *name, const char *value) {
    char text[64];
    int length = snprintf(text, sizeof text, "\"%s\":%s", name, value);
    if (memmem(body, size, text, (size_t)length)) return true;
    length = snprintf(text, sizeof text, "\"%s\": %s", name, value);
    return memmem(body, size, text, (size_t)length);
}

static bool answer(struct peer *peer, const char *body, size_t size) {
    const char *name = memmem(body, size, "bench-stream-", 13);
    int deltas = 0, milliseconds = 0;
    if (!name || !says(body, size, "stream", "true") ||
        sscanf(name, "bench-stream-%d-%d", &deltas, &milliseconds) != 2)
        return send_all(peer, reply, reply_size);
    peer->include_usage = says(body, size, "include_usage", "true");
    peer->deltas = peer->deltas_left = deltas;
    peer->pause_ns = milliseconds * 1000000LL;
    peer->due_ns = now_ns() + peer->pause_ns;
    timer_add(peer);
    return send_all(peer, stream_head, stream_head_size);
}

/* Where the request ends; 0: not here yet. */
static size_t request_end(struct peer *peer, size_t *body_at) {
    char *end = memmem(peer->in, peer->in_used, "\r\n\r\n", 4);
    if (!end) return 0;
    *body_at = (size_t)(end - peer->in) + 4;
    end[2] = 0; /* A string for the look-ups, for a moment. */
    const char *length = head_value(peer->in, "content-length");
    const char *coding = head_value(peer->in, "transfer-encoding");
    end[2] = '\r';
    if (coding) {
        char *last = memmem(peer->in + *body_at, peer->in_used - *body_at, "0\r\n\r\n", 5);
        return last ? (size_t)(last - peer->in) + 5 : 0;
    }
    size_t total = *body_at + (length ? strtoul(length, NULL, 10) : 0);
    return total <= peer->in_used ? total : 0;
}

static bool serve(struct peer *peer) {
    size_t body_at, end;
    while (peer->place < 0 && peer->in_used && (end = request_end(peer, &body_at))) {
        char *line_end = memchr(peer->in, '\r', peer->in_used);
        bool chat = memmem(peer->in, (size_t)(line_end - peer->in), "/chat/completions", 17);
        if (!(chat ? answer(peer, peer->in + body_at, end - body_at)
                   : send_all(peer, missing, missing_size)))
            return false;
        peer->in_used -= end;
        memmove(peer->in, peer->in + end, peer->in_used);
    }
    return true;
}

static bool receive(struct peer *peer) {
    if (peer->in_room - peer->in_used < 4096) {
        if (peer->in_room >= MOST_REQUEST) return false;
        peer->in_room = peer->in_room ? 4 * peer->in_room : 8192;
        peer->in = grown(peer->in, peer->in_room);
    }
    ssize_t got = recv(peer->fd, peer->in + peer->in_used, peer->in_room - peer->in_used, 0);
    if (got < 0) return errno == EAGAIN;
    peer->in_used += (size_t)got;
    return got && serve(peer);
}

static void hang_up(struct peer *peer) {
    if (peer->place >= 0) timer_remove(peer);
    close(peer->fd);
    free(peer->in);
    free(peer->out);
    free(peer);
}

static void run_timers(void) {
    while (heap_size && heap[0]->due_ns <= now_ns()) {
        struct peer *peer = heap[0];
        bool lives;
        if (peer->deltas_left > 0) {
            lives = send_delta(peer);
            peer->deltas_left--;
            peer->due_ns += peer->pause_ns;
            sift(0);
        } else {
            timer_remove(peer);
            lives = send_end(peer) && serve(peer);
        }
        if (!lives) hang_up(peer);
    }
}

static void accept_all(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct peer *peer = calloc(1, sizeof *peer);
        if (!peer) die("memory");
        peer->fd = fd;
        peer->place = -1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

static void prepare_texts(void) {
    char body[2048];
    char words[600] = "";
    while (strlen(words) < 560) strcat(words, "All happy families are alike. ");
    int size = snprintf(
        body, sizeof body,
        "{\"id\":\"chatcmpl-bench0123456789abcdefghijkl\",\"object\":\"chat.completion\","
        "\"created\":1704067200,\"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":"
        "{\"role\":\"assistant\",\"content\":\"%s\",\"refusal\":null,\"annotations\":[]},"
        "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":170,"
        "\"completion_tokens\":120,\"total_tokens\":290,\"prompt_tokens_details\":"
        "{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":"
        "{\"reasoning_tokens\":0,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
        "\"rejected_prediction_tokens\":0}},\"service_tier\":\"default\","
        "\"system_fingerprint\":\"fp_0123456789\"}",
        words);
    reply_size = (size_t)snprintf(reply, sizeof reply,
                                  "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                                  "content-length: %d\r\n" HEADERS "\r\n%s",
                                  size, body);
    missing_size = (size_t)snprintf(
        missing, sizeof missing,
        "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}");
    stream_head_size = (size_t)snprintf(stream_head, sizeof stream_head,
                                        "HTTP/1.1 200 OK\r\n"
                                        "content-type: text/event-stream; charset=utf-8\r\n"
                                        "transfer-encoding: chunked\r\n"
                                        "cache-control: no-cache\r\n" HEADERS "\r\n");
    delta_size = event_chunk(delta, sizeof delta,
                             "\"choices\":[{\"index\":0,\"delta\":{\"content\":"
                             "\"@0000000000000000000@\"},\"logprobs\":null,"
                             "\"finish_reason\":null}]}");
    stamp_at = (size_t)(strchr(delta, '@') - delta) + 1;
}

int main(int count, char **arguments) {
    if (count != 2) die("usage: upstream PORT");
    process_prepare();
    prepare_texts();
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(atoi(arguments[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address)) die("bind");
    if (listen(listener, 4096)) die("listen");
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event);
    for (struct epoll_event events[512];;) {
        int64_t until = heap_size ? heap[0]->due_ns : now_ns() + SECOND;
        int found = wait_for_events(poll_fd, events, 512, until);
        for (int i = 0; i < found; i++) {
            struct peer *peer = events[i].data.ptr;
            if (!peer) {
                accept_all(listener);
                continue;
            }
            bool lives = true;
            if (events[i].events & EPOLLOUT) lives = flush(peer);
            if (lives && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) lives = receive(peer);
            if (!lives) hang_up(peer);
        }
        run_timers();
    }
}
