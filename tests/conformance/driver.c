/* driver <directory> <live|bare> <case>... : runs cases by number. "bare" never calls InitializeLibrary. */
#include "driver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sanitizer/lsan_interface.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHILD_SECONDS = 8, JOIN_SECONDS = 20, ASLEEP_SECONDS = 20, ASLEEP_IN_A_ROW = 20, NESTED_LISTS = 100000 };

char live_id[ID_BYTES], world_id[ID_BYTES], peer_id[ID_BYTES], spare_id[ID_BYTES];
char live_config[TEXT_BYTES], spare_config[TEXT_BYTES], waiting_config[TEXT_BYTES], peer_addresses[TEXT_BYTES];
int live_handle, spare_handle;
char direct[TEXT_BYTES], topic[TEXT_BYTES], spare_direct[TEXT_BYTES], text_of_256[257];
char *exact_text, *huge_text, *nested_lists, *big;
int read_only;
const char absent_peer[] = "12D3KooWAHoEkEqnKzM5PXFygh2movVBCSX3k8tDsT2cneU68Gyt";

int live_pools, closed_pools, spare_pools;
const char spare_pools_config[] =
    "{\"max_connections\":10,\"policy\":\"none\",\"networks\":[{\"name\":\"n\",\"instance\":4}],"
    "\"pools\":[{\"name\":\"p\",\"network\":\"n\",\"capacity\":1}],\"rules\":[{\"pool\":\"p\"}]}";
const char somebody[] = "{\"id\":\"somebody\"}";
const char absent_info[] = "{\"id\":\"12D3KooWAHoEkEqnKzM5PXFygh2movVBCSX3k8tDsT2cneU68Gyt\",\"misc\":3}";
const char private_key[] =
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIMzr9BDTe9jiqId4+kO23SeKxYp2nhxl4voQwYOxq1if\n-----END PRIVATE KEY-----\n";
const char public_key[] = "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"fO3zVkn1IwIDINj0-vpzhC4Ra4TnCOSLHgOkjgfuo1o\"}";

static const char *directory;
static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;

static void die(const char *what) {
    fprintf(stderr, "driver: %s\n", what);
    exit(3);
}

/* ---- Lines ---- */

static void line(char kind, const char *tag, long long number, const char *bytes, size_t size) {
    pthread_mutex_lock(&output);
    printf("%c %s %lld ", kind, tag, number);
    for (size_t i = 0; i < size; i++) printf("%02x", (unsigned char)bytes[i]);
    printf(bytes == NULL ? "-\n" : ".\n");
    fflush(stdout);
    pthread_mutex_unlock(&output);
}

void emit_text(const char *tag, char *text) {
    line('T', tag, 0, text, text == NULL ? 0 : strlen(text));
    FreeString(text);
}

void emit_beginning(const char *tag, char *text) {
    size_t size = text == NULL ? 0 : strlen(text);
    line('C', tag, 0, text, size > 64 ? 64 : size);
    FreeString(text);
}

void emit_int(const char *tag, long long number) { line('I', tag, number, NULL, 0); }

void emit_data_int(const char *tag, int number) {
    const char *text = number < 0 ? peerbus_last_error() : "";
    line('D', tag, number, text, strlen(text));
}

void emit_constant(const char *tag, const char *text) { line('C', tag, 0, text, text == NULL ? 0 : strlen(text)); }

void emit_nothing(const char *tag) { line('N', tag, 0, NULL, 0); }

void emit_batch(const char *tag, int count, peerbus_batch *batch) {
    emit_data_int(tag, count);
    if ((batch == NULL) != (count <= 0)) line('X', tag, count, "count and batch disagree", 24);
    peerbus_batch_free(batch);
}

/* ---- World ---- */

static void must(char *envelope, const char *what) {
    if (!is_success(envelope)) {
        fprintf(stderr, "driver: %s: %s\n", what, envelope == NULL ? "NULL" : envelope);
        exit(3);
    }
    FreeString(envelope);
}

int is_success(const char *envelope) { return envelope != NULL && strstr(envelope, "\"state\":\"Success\"") != NULL; }

static void configure(char *config, const char *name, const char *more) {
    snprintf(config, TEXT_BYTES,
             "{\"identity_dir\":\"%s/%s\",\"listen_ips\":[\"127.0.0.1\"],\"nat\":{\"port_mapping\":false,"
             "\"hole_punching\":false,\"autonat\":false},\"dht\":{\"enabled\":false}%s}",
             directory, name, more);
}

static void start(int slot, const char *config, char *id, char *addresses) {
    must(CreateNode(slot, config), "CreateNode");
    char *own = GetNodeAddresses(slot, "");
    char *list = own == NULL ? NULL : strchr(own, '['), *end = list == NULL ? NULL : strchr(list, ']');
    char *owner = list == NULL ? NULL : strstr(list, "/p2p/");
    if (end == NULL || owner == NULL || end - list + 2 > TEXT_BYTES || sscanf(owner, "/p2p/%127[^\"/]", id) != 1)
        die("a node has no addresses");
    if (addresses != NULL) snprintf(addresses, TEXT_BYTES, "%.*s", (int)(end - list) + 1, list);
    FreeString(own);
}

static char *filled(size_t size, char with) {
    char *text = malloc(size + 1);
    if (text == NULL) die("no memory");
    memset(text, with, size);
    text[size] = 0;
    return text;
}

static void prepare_texts(void) {
    exact_text = filled(PEERBUS_MAX_TEXT, 'a');
    huge_text = filled(PEERBUS_MAX_TEXT + 1, 'a');
    nested_lists = filled(NESTED_LISTS, '[');
    big = filled(BIG_BYTES, 'b');
    memset(text_of_256, 'c', 256);
    read_only = open("/dev/null", O_RDONLY);
    configure(live_config, "live", "");
    configure(spare_config, "spare", "");
    configure(waiting_config, "spare", ",\"network\":{\"reachability_timeout_ms\":60000}");
    snprintf(direct, sizeof direct, "%s::dm:%s-x", absent_peer, absent_peer);
    snprintf(topic, sizeof topic, "%s::ps:news", absent_peer);
}

static int start_pools(const char *config) {
    int number = 0;
    char *answer = CreatePools(config);
    char *found = answer == NULL ? NULL : strstr(answer, "\"pools\":");
    if (found == NULL || sscanf(found, "\"pools\":%d", &number) != 1) die(answer == NULL ? "CreatePools" : answer);
    FreeString(answer);
    return number;
}

void name_world(void) {
    char text[ID_BYTES + 2];
    snprintf(text, sizeof text, "\"%s\"", peer_id);
    must(PoolsSet(live_pools, "world", text), "PoolsSet");
}

static void prepare_pools(void) {
    char config[TEXT_BYTES], id[ID_BYTES], channel[TEXT_BYTES];
    configure(config, "public", "");
    start(PUBLIC, config, id, NULL);
    configure(config, "world", "");
    start(WORLD, config, world_id, NULL);
    snprintf(config, sizeof config, "{\"preset\":\"node_conn\",\"max_connections\":100,\"policy\":\"none\",\"public\":%d,\"world\":%d}",
             PUBLIC, WORLD);
    closed_pools = start_pools(config);
    must(ClosePools(closed_pools), "ClosePools");
    live_pools = start_pools(config);
    name_world();
    snprintf(channel, sizeof channel, "%s::dm:%s-misc", world_id, peer_id);
    if (peerbus_set_policy(PEER, channel, PEERBUS_DROP_OLDEST) != 0) die("peerbus_set_policy failed");
}

static void prepare_nodes(void) {
    char config[TEXT_BYTES], id[ID_BYTES];
    InitializeLibrary(MAX_INSTANCES, 0, 0, 0, NULL);
    start(LIVE, live_config, live_id, NULL);
    configure(config, "peer", "");
    start(PEER, config, peer_id, peer_addresses);
    configure(config, "closed", "");
    start(CLOSED, config, id, NULL);
    must(CloseNode(CLOSED), "CloseNode");
    must(ConnectTo(LIVE, peer_addresses), "ConnectTo");
    snprintf(direct, sizeof direct, "%s::dm:%s-x", live_id, peer_id);
    snprintf(topic, sizeof topic, "%s::ps:news", live_id);
    if (peerbus_set_policy(PEER, direct, PEERBUS_DROP_OLDEST) != 0) die("peerbus_set_policy failed");
    live_handle = peerbus_channel_open(LIVE, direct, 0);
    if (live_handle <= 0 || peerbus_channel_send(LIVE, live_handle, "1", 1, 5000, NULL) != 0) die(peerbus_last_error());
    prepare_pools();
}

void ignore_release(void *context) { (void)context; }

void start_spare(void) { start(SPARE, spare_config, spare_id, NULL); }

void start_connected_spare(void) {
    start_spare();
    must(ConnectTo(SPARE, peer_addresses), "ConnectTo");
    snprintf(spare_direct, sizeof spare_direct, "%s::dm:%s-x", spare_id, peer_id);
    spare_handle = peerbus_channel_open(SPARE, spare_direct, 0);
}

void start_pooled_spare(void) {
    start_connected_spare();
    spare_pools = start_pools(spare_pools_config);
}

void close_spare(void) {
    FreeString(CloseNode(SPARE));
    if (spare_pools != 0) must(ClosePools(spare_pools), "ClosePools");
    spare_pools = 0;
}

void fill_spare(void) {
    for (;;) {
        int code = peerbus_send(SPARE, spare_direct, big, BIG_BYTES, 0);
        if (code == PEERBUS_WOULD_BLOCK) return;
        if (code != 0) die(peerbus_last_error());
    }
}

const char *silent_addresses(void) {
    static char addresses[TEXT_BYTES];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&at, size) != 0 || listen(listener, 8) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &size) != 0)
        die("no listening socket");
    snprintf(addresses, sizeof addresses, "[\"/ip4/127.0.0.1/tcp/%d/p2p/%s\"]", ntohs(at.sin_port), absent_peer);
    return addresses;
}

const char *silent_relay(void) {
    static char info[2 * TEXT_BYTES];
    char address[TEXT_BYTES];
    if (sscanf(silent_addresses(), "[\"%[^\"]", address) != 1) die("no address");
    snprintf(info, sizeof info, "{\"ID\":\"%s\",\"Addrs\":[\"%s\"]}", absent_peer, address);
    return info;
}

/* ---- Situations ---- */

static void nap(void) { nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); }

static time_t seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

void in_forked_child(void (*call)(void)) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        call();
        _exit(0);
    }
    int status = 0;
    for (time_t end = seconds() + CHILD_SECONDS; waitpid(child, &status, WNOHANG) == 0; nap()) {
        if (seconds() <= end) continue;
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        line('X', "child", 0, "hangs", 5);
        return;
    }
    if (status != 0) line('X', "child", status, "died", 4);
}

static pthread_barrier_t together;

static void *call_often(void *call) {
    pthread_barrier_wait(&together);
    for (int i = 0; i < CALLS_PER_THREAD; i++) (*(void (**)(void))call)();
    return NULL;
}

static void join(pthread_t thread) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += JOIN_SECONDS;
    if (pthread_timedjoin_np(thread, NULL, &end) == 0) return;
    line('X', "thread", 0, "hangs", 5);
    char *stacks = DumpStacks();
    if (stacks != NULL) fputs(stacks, stderr);
    _exit(4);
}

void in_threads(void (*call)(void)) {
    pthread_t threads[THREADS];
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, call_often, &call) != 0) die("no thread");
    for (int i = 0; i < THREADS; i++) join(threads[i]);
    pthread_barrier_destroy(&together);
}

static volatile long waiter;

static void *call_once(void *call) {
    __atomic_store_n(&waiter, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    (*(void (**)(void))call)();
    __atomic_store_n(&waiter, -1, __ATOMIC_SEQ_CST);
    return NULL;
}

static int asleep(long thread) {
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/self/task/%ld/stat", thread);
    FILE *stat = fopen(path, "r");
    if (stat == NULL) return 0;
    if (fscanf(stat, "%*d %*s %c", &state) != 1) state = 0;
    fclose(stat);
    return state == 'S';
}

/* Nothing tells a caller that another thread sleeps inside the library, so this asks the kernel until it says so often. */
static void wait_until_asleep(void) {
    int in_a_row = 0;
    for (time_t end = seconds() + ASLEEP_SECONDS; in_a_row < ASLEEP_IN_A_ROW; nap()) {
        long thread = __atomic_load_n(&waiter, __ATOMIC_SEQ_CST);
        if (thread == -1 || seconds() > end) {
            line('X', "waiter", 0, "did not wait", 12);
            return;
        }
        in_a_row = thread != 0 && asleep(thread) ? in_a_row + 1 : 0;
    }
}

void while_closing(void (*call)(void)) {
    pthread_t thread;
    __atomic_store_n(&waiter, 0, __ATOMIC_SEQ_CST);
    if (pthread_create(&thread, NULL, call_once, &call) != 0) die("no thread");
    wait_until_asleep();
    emit_text("close", CloseNode(SPARE));
    join(thread);
}

/* ---- Running ---- */

/* LeakSanitizer does not see what waits in the queues of living nodes, since Go keeps the pointers. So a leak that it finds
 * is a suspicion, and becomes a fact when it is still there after every node was closed. */
static const char *suspect;

static void *run_case(void *which) {
    ((const struct test_case *)which)->run();
    return NULL;
}

/* A case runs in a thread of its own: pointers that it leaves on the stack would hide a leak. */
static void run(const struct test_case *which) {
    pthread_t thread;
    printf("BEGIN %s\n", which->name);
    fflush(stdout);
    if (pthread_create(&thread, NULL, run_case, (void *)which) != 0 || pthread_join(thread, NULL) != 0) die("no thread");
    if (suspect == NULL && __lsan_do_recoverable_leak_check() != 0) suspect = which->name;
    printf("END %s\n", which->name);
    fflush(stdout);
}

static void check_leaks(void) {
    if (__lsan_do_recoverable_leak_check() == 0) return;
    printf("LEAK %s\n", suspect == NULL ? "closing the nodes" : suspect);
}

int main(int count, char **arguments) {
    if (count < 3) die("usage: driver <directory> <live|bare> <case>...");
    directory = arguments[1];
    prepare_texts();
    if (strcmp(arguments[2], "live") == 0) prepare_nodes();
    for (int i = 3; i < count; i++) {
        size_t number = strtoul(arguments[i], NULL, 10);
        if (number >= case_count) die("no such case");
        run(&cases[number]);
    }
    if (strcmp(arguments[2], "live") == 0) {
        must(ClosePools(-1), "ClosePools");
        must(CloseNode(-1), "CloseNode");
    }
    check_leaks();
    printf("DONE\n");
    fflush(stdout);
    _exit(0); /* the check for leaks at exit would come to the same again */
}
