// peerbus_pools.hpp - pool sets and tokens for C++17 and later: RAII over the sections Pools and Tokens of peerbus.h, which
// are the manual: keys of the configuration, settings, queries and events are as written there, JSON in and JSON out.
//
// As in peerbus.hpp every call comes twice: `pools.send(...)` throws peerbus::Error, `pools.try_send(...)` returns
// peerbus::Result. What the library answers with Empty is "" here.
#ifndef PEERBUS_POOLS_HPP
#define PEERBUS_POOLS_HPP

#include "peerbus.hpp"

#if __cplusplus >= 202002L || (defined(_MSVC_LANG) && _MSVC_LANG >= 202002L)
#define PEERBUS_CPP_ABI with_span
#else
#define PEERBUS_CPP_ABI with_view
#endif

namespace peerbus {
inline namespace PEERBUS_CPP_ABI {

// Content is what a pool message carries: the field of the envelope, and bytes that somebody else owns.
struct Content {
    peerbus_content field = PEERBUS_CONTENT_NONE;
    Bytes data;

    static Content none() noexcept { return {}; }
    static Content json(std::string_view text) noexcept { return {PEERBUS_CONTENT_JSON, bytes(text)}; }
    static Content raw(Bytes data) noexcept { return {PEERBUS_CONTENT_RAW, data}; }
    static Content stream_sample(Bytes encoded) noexcept { return {PEERBUS_CONTENT_STREAM_SAMPLE, encoded}; }
    static Content stats(Bytes encoded) noexcept { return {PEERBUS_CONTENT_STATS, encoded}; }
};

// Pools owns a pool set and closes it when it dies, which takes up to 10 s while a refused peer is being disconnected. Its
// functions may be called from several threads at a time, except that nobody may move or destroy it meanwhile.
class Pools {
public:
    // config: the JSON of CreatePools. Its nodes stay their owners'; close the set before them, or after.
    static Result<Pools> try_create(const Library &, std::string_view config) {
        const detail::Text text(config);
        if (auto failure = detail::cut(text)) return *failure;
        auto created = detail::answer(CreatePools(text.c_str()));
        if (!created) return created.failure();
        const std::string number(detail::Json(created.value()).member("pools").value_or("0"));
        return Pools(static_cast<int>(std::strtol(number.c_str(), nullptr, 10)), std::move(created).value());
    }
    Pools(const Library &library, std::string_view config) : Pools(try_create(library, config).value()) {}

    Pools(Pools &&other) noexcept : pools_(other.pools_.exchange(none)), created_(std::move(other.created_)) {}
    Pools &operator=(Pools &&other) noexcept {
        if (this != &other) {
            release();
            pools_ = other.pools_.exchange(none);
            created_ = std::move(other.created_);
        }
        return *this;
    }
    ~Pools() { release(); }

    // Up to 10 s; the nodes stay open. Closing again succeeds; other calls answer CLOSED from then on.
    Result<void> try_close() {
        const int pools = pools_.exchange(none);
        return pools == none ? Result<void>() : detail::done(detail::answer(ClosePools(pools)));
    }
    void close() { try_close().value(); }

    // The set's number, as the "pools" of its events; 0 once it is closed.
    int number() const noexcept { return pools_; }

    // What CreatePools answered: {"pools":1,"capacities":[...]}.
    const std::string &created() const noexcept { return created_; }

    // -- Connections --

    // Answer: {"peer":"12D3...","relayed":bool}. Places nobody: the connection does.
    Result<std::string> try_connect(std::string_view network, const std::vector<std::string> &addresses, Milliseconds timeout) {
        return ask([&](auto *n, auto *a) { return PoolsConnect(pools_, n, a, detail::milliseconds(timeout)); }, network,
                   detail::list_json(addresses));
    }
    std::string connect(std::string_view network, const std::vector<std::string> &addresses, Milliseconds timeout) {
        return try_connect(network, addresses, timeout).value();
    }

    Result<void> try_disconnect(std::string_view network, std::string_view peer, Milliseconds timeout) {
        return done([&](auto *n, auto *p) { return PoolsDisconnect(pools_, n, p, detail::milliseconds(timeout)); }, network, peer);
    }
    void disconnect(std::string_view network, std::string_view peer, Milliseconds timeout) {
        try_disconnect(network, peer, timeout).value();
    }

    // Answer: {"expires":"RFC 3339"}.
    Result<std::string> try_reserve(std::string_view network, std::string_view relay, Milliseconds timeout) {
        return ask([&](auto *n, auto *r) { return PoolsReserve(pools_, n, r, detail::milliseconds(timeout)); }, network, relay);
    }
    std::string reserve(std::string_view network, std::string_view relay, Milliseconds timeout) {
        return try_reserve(network, relay, timeout).value();
    }

    // Runs a function of the set in the background of a network's node, "" for the first one that is open; see StartPoolsOperation.
    // Its end is an event of that node, and cancel of the node ends it early.
    Result<Node::Operation> try_start(std::string_view network, std::string_view function, std::string_view argument,
                                      Milliseconds timeout) {
        auto started = ask([&](auto *n, auto *f, auto *a) { return StartPoolsOperation(pools_, n, f, a, detail::milliseconds(timeout)); },
                           network, function, argument);
        if (!started) return started.failure();
        const std::string number(detail::Json(started.value()).member("operation").value_or("0"));
        return std::strtoll(number.c_str(), nullptr, 10);
    }
    Node::Operation start(std::string_view network, std::string_view function, std::string_view argument, Milliseconds timeout) {
        return try_start(network, function, argument, timeout).value();
    }

    // -- Membership --

    // Answer: {"added","removed","refused","problems"} since the last update.
    Result<std::string> try_update() {
        return ask([&] { return PoolsUpdate(pools_); });
    }
    std::string update() { return try_update().value(); }

    // info: a peer info, of which "id" is required. Answer: the stored one. REFUSED: full, or the peer is in another pool.
    Result<std::string> try_add(std::string_view pool, std::string_view info) {
        return ask([&](auto *p, auto *i) { return PoolsAdd(pools_, p, i); }, pool, info);
    }
    std::string add(std::string_view pool, std::string_view info) { return try_add(pool, info).value(); }

    Result<void> try_move(std::string_view pool, std::string_view peer) {
        return done([&](auto *p, auto *id) { return PoolsMove(pools_, p, id); }, pool, peer);
    }
    void move(std::string_view pool, std::string_view peer) { try_move(pool, peer).value(); }

    // False: the peer was in no pool, and is left alone.
    Result<bool> try_remove(std::string_view peer, Milliseconds timeout) {
        auto removed = ask([&](auto *p) { return PoolsRemove(pools_, p, detail::milliseconds(timeout)); }, peer);
        if (!removed) return removed.failure();
        return removed.value() == "true";
    }
    bool remove(std::string_view peer, Milliseconds timeout) { return try_remove(peer, timeout).value(); }

    Result<void> try_remove_all_world_agents(Milliseconds timeout) {
        return done([&] { return PoolsRemoveAllWorldAgents(pools_, detail::milliseconds(timeout)); });
    }
    void remove_all_world_agents(Milliseconds timeout) { try_remove_all_world_agents(timeout).value(); }

    // With custom_routing: {"<peer id>":"<pool>" or "" for nowhere}.
    Result<void> try_route(std::string_view network, std::string_view routes) {
        return done([&](auto *n, auto *r) { return PoolsRoute(pools_, n, r); }, network, routes);
    }
    void route(std::string_view network, std::string_view routes) { try_route(network, routes).value(); }

    // -- Settings, lists, questions --

    Result<void> try_set(std::string_view setting, std::string_view value) {
        return done([&](auto *s, auto *v) { return PoolsSet(pools_, s, v); }, setting, value);
    }
    void set(std::string_view setting, std::string_view value) { try_set(setting, value).value(); }

    // list: "world_agents" or "world_masters"; entries: a JSON list, which may be longer than other texts.
    Result<void> try_set_world_list(std::string_view list, std::string_view entries) {
        return done([&](auto *l) { return PoolsSetWorldList(pools_, l, entries.data(), entries.size()); }, list);
    }
    void set_world_list(std::string_view list, std::string_view entries) { try_set_world_list(list, entries).value(); }

    Result<void> try_add_to_world_list(std::string_view list, std::string_view entry) {
        return done([&](auto *l, auto *e) { return PoolsAddToWorldList(pools_, l, e); }, list, entry);
    }
    void add_to_world_list(std::string_view list, std::string_view entry) { try_add_to_world_list(list, entry).value(); }

    // Answer: {"applied":bool,"update_count":n}.
    Result<std::string> try_apply_rendezvous() {
        return ask([&] { return PoolsApplyRendezvous(pools_); });
    }
    std::string apply_rendezvous() { return try_apply_rendezvous().value(); }

    // Answer: the peer id of the world node that was left, "" when none was named.
    Result<std::string> try_leave_world() {
        auto left = ask([&] { return PoolsLeaveWorld(pools_); });
        return left ? Result<std::string>(detail::Json(left.value()).text()) : std::move(left);
    }
    std::string leave_world() { return try_leave_world().value(); }

    // The JSON answer, "" for Empty.
    Result<std::string> try_query(std::string_view query, std::string_view arguments = "{}") const {
        return ask([&](auto *q, auto *a) { return PoolsQuery(pools_, q, a); }, query, arguments);
    }
    std::string query(std::string_view query, std::string_view arguments = "{}") const { return try_query(query, arguments).value(); }

    // -- Messages --

    struct SendOptions {
        std::string_view trail = {};                     // after "~" at the end of the channel
        std::optional<std::string_view> network = {};    // nothing: that of the peer's pool
    };

    Result<void> try_send(std::string_view peer, std::string_view content_type, Content content, Milliseconds timeout,
                          SendOptions options) {
        const detail::Text p(peer), trail(options.trail), type(content_type), network(options.network.value_or(""));
        if (auto failure = detail::cut(p, trail, type, network)) return *failure;
        const int code = peerbus_pools_send(pools_, p.c_str(), trail.c_str(), type.c_str(), content.field, content.data.data(),
                                            content.data.size(), options.network ? network.c_str() : nullptr,
                                            detail::milliseconds(timeout));
        return code < 0 ? Result<void>(failed(code)) : Result<void>();
    }
    Result<void> try_send(std::string_view peer, std::string_view content_type, Content content, Milliseconds timeout) {
        return try_send(peer, content_type, content, timeout, SendOptions());
    }
    void send(std::string_view peer, std::string_view content_type, Content content, Milliseconds timeout, SendOptions options) {
        try_send(peer, content_type, content, timeout, options).value();
    }
    void send(std::string_view peer, std::string_view content_type, Content content, Milliseconds timeout) {
        try_send(peer, content_type, content, timeout).value();
    }

    // Answer: the subscribers that were connected.
    Result<int> try_publish(std::string_view peer, std::string_view channel, std::string_view content_type, Content content,
                            Milliseconds timeout) {
        const detail::Text p(peer), topic(channel), type(content_type);
        if (auto failure = detail::cut(p, topic, type)) return *failure;
        const int reached = peerbus_pools_publish(pools_, p.c_str(), topic.c_str(), type.c_str(), content.field,
                                                  content.data.data(), content.data.size(), detail::milliseconds(timeout));
        return reached < 0 ? Result<int>(failed(reached)) : Result<int>(reached);
    }
    int publish(std::string_view peer, std::string_view channel, std::string_view content_type, Content content,
                Milliseconds timeout) {
        return try_publish(peer, channel, content_type, content, timeout).value();
    }

    // From all channels of a network; Message::node_id and the like say who sent it. An empty Batch: none came in time.
    Result<Batch> try_receive(std::string_view network, Milliseconds timeout, Node::ReceiveLimits limits) {
        const detail::Text name(network);
        if (auto failure = detail::cut(name)) return *failure;
        peerbus_batch *batch = nullptr;
        const int count = peerbus_pools_receive(pools_, name.c_str(), nullptr, limits.max_messages, limits.max_bytes,
                                                detail::milliseconds(timeout), &batch);
        if (count < 0) return failed(count);
        return Batch(batch);
    }
    Result<Batch> try_receive(std::string_view network, Milliseconds timeout) {
        return try_receive(network, timeout, Node::ReceiveLimits());
    }
    Batch receive(std::string_view network, Milliseconds timeout, Node::ReceiveLimits limits) {
        return try_receive(network, timeout, limits).value();
    }
    Batch receive(std::string_view network, Milliseconds timeout) { return try_receive(network, timeout).value(); }

    // On the network whose own id peer is, else that of its pool, else the one named.
    Result<void> try_subscribe(std::string_view peer, std::string_view channel, std::string_view network = "") {
        return done([&](auto *p, auto *c, auto *n) { return PoolsSubscribe(pools_, p, c, n); }, peer, channel, network);
    }
    void subscribe(std::string_view peer, std::string_view channel, std::string_view network = "") {
        try_subscribe(peer, channel, network).value();
    }

    Result<void> try_unsubscribe(std::string_view peer, std::string_view channel, std::string_view network = "") {
        return done([&](auto *p, auto *c, auto *n) { return PoolsUnsubscribe(pools_, p, c, n); }, peer, channel, network);
    }
    void unsubscribe(std::string_view peer, std::string_view channel, std::string_view network = "") {
        try_unsubscribe(peer, channel, network).value();
    }

private:
    static constexpr int none = 0; // a number that no set has

    Pools(int pools, std::string created) noexcept : pools_(pools), created_(std::move(created)) {}

    void release() noexcept {
        const int pools = pools_.exchange(none);
        if (pools != none) FreeString(ClosePools(pools));
    }

    Failure own(Failure failure) const {
        if (pools_ != none) return failure;
        return {PEERBUS_CLOSED, "this peerbus::Pools was closed or moved from"};
    }
    Failure failed(int code) const { return own({static_cast<peerbus_code>(code), peerbus_last_error()}); }

    // Calls with the texts NUL-terminated, and takes the envelope off.
    template <class Call, class... Texts> Result<std::string> ask(Call call, const Texts &...texts) const {
        return ask_with(call, detail::Text(texts)...);
    }
    template <class Call, class... Texts> Result<std::string> ask_with(Call call, const Texts &...texts) const {
        if (auto failure = detail::cut(texts...)) return *failure;
        auto answered = detail::answer(call(texts.c_str()...));
        return answered ? std::move(answered) : Result<std::string>(own(answered.failure()));
    }
    template <class Call, class... Texts> Result<void> done(Call call, const Texts &...texts) const {
        return detail::done(ask(call, texts...));
    }

    std::atomic<int> pools_{none};
    std::string created_;
};

// Tokens for tests and small deployments: whoever holds the private key decides for whom it signs.
class Tokens {
public:
    struct KeyPair {
        std::string private_key, public_key; // PEM
    };

    // algorithm: "EdDSA", "ES256" or "RS256".
    static Result<KeyPair> try_generate_key(std::string_view algorithm = "EdDSA") {
        const detail::Text text(algorithm);
        if (auto failure = detail::cut(text)) return *failure;
        auto made = detail::answer(GenerateTokenKey(text.c_str()));
        if (!made) return made.failure();
        const detail::Json json(made.value());
        const auto key = [&](std::string_view name) { return detail::Json(json.member(name).value_or("")).text(); };
        return KeyPair{key("private_key"), key("public_key")};
    }
    static KeyPair generate_key(std::string_view algorithm = "EdDSA") { return try_generate_key(algorithm).value(); }

    // request: the JSON of IssueToken.
    static Result<std::string> try_issue(std::string_view private_key, std::string_view request) {
        const detail::Text key(private_key), text(request);
        if (auto failure = detail::cut(key, text)) return *failure;
        auto issued = detail::answer(IssueToken(key.c_str(), text.c_str()));
        if (!issued) return issued.failure();
        return detail::Json(detail::Json(issued.value()).member("token").value_or("")).text();
    }
    static std::string issue(std::string_view private_key, std::string_view request) {
        return try_issue(private_key, request).value();
    }

    // Answer: {"valid":true,"claims":{...}} or {"valid":false,"reason":...,"problem":...}. match: claims that must be equal.
    static Result<std::string> try_verify(std::string_view public_key, std::string_view token, std::string_view peer,
                                          std::string_view match = "{}") {
        const detail::Text key(public_key), text(token), id(peer), claims(match);
        if (auto failure = detail::cut(key, text, id, claims)) return *failure;
        return detail::answer(VerifyToken(key.c_str(), text.c_str(), id.c_str(), claims.c_str()));
    }
    static std::string verify(std::string_view public_key, std::string_view token, std::string_view peer,
                              std::string_view match = "{}") {
        return try_verify(public_key, token, peer, match).value();
    }
};

} // namespace PEERBUS_CPP_ABI
} // namespace peerbus

#undef PEERBUS_CPP_ABI
#endif
