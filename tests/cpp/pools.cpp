// Tests of peerbus_pools.hpp, each run by name: pools <test> <directory>. Without arguments it lists them.
#include "peerbus_pools.hpp"

#include "testing.hpp"

using namespace std::chrono_literals;
using peerbus::Batch, peerbus::Content, peerbus::Error, peerbus::Library, peerbus::Node, peerbus::Pools, peerbus::Tokens;
using peerbus::detail::Json;

static const char by_direction[] =
    R"("pools":[{"name":"in","network":"net","capacity":0.5},{"name":"out","network":"net","capacity":0.5}],)"
    R"("rules":[{"pool":"in","direction":"inbound"},{"pool":"out","direction":"outbound"}],"max_connections":10)";

static std::string set_over(int instance, const std::string &more) {
    return R"({"networks":[{"name":"net","instance":)" + std::to_string(instance) + "}]," + by_direction + "," + more + "}";
}

static std::string quoted(const std::string &text) { return Json::quoted(text); }

static_assert(!std::is_copy_constructible_v<Pools> && std::is_nothrow_move_constructible_v<Pools>);

// Two connected nodes in a set each, with valid tokens.
struct Pair {
    Node alice_node{library(), 0, config("alice")};
    Node bob_node{library(), 1, config("bob")};
    Tokens::KeyPair key = Tokens::generate_key();
    Pools alice{library(), set_over(0, keys("alice", alice_node.id()))};
    Pools bob{library(), set_over(1, keys("bob", bob_node.id()))};

    Pair() {
        const auto reached = alice.connect("net", bob_node.addresses(), 20s);
        CHECK(Json(*Json(reached).member("peer")).text() == bob_node.id());
        while (bob.query("pool_of", peer(alice_node.id())).empty()) bob_node.events(10s);
    }
    std::string token(const std::string &name, const std::string &id) const {
        return Tokens::issue(key.private_key, R"({"node_id":")" + name + R"(","p2p_peers":[")" + id + R"("]})");
    }
    std::string keys(const std::string &name, const std::string &id) const {
        return R"("public_key":)" + quoted(key.public_key) + R"(,"token":)" + quoted(token(name, id));
    }
    static std::string peer(const std::string &id) { return R"({"peer":")" + id + R"("})"; }
};

static void a_message_arrives_with_its_verified_node() {
    Pair pair;
    pair.alice.send(pair.bob_node.id(), "misc", Content::json(R"({"hello":"bob"})"), 5s);
    const Batch batch = pair.bob.receive("net", 10s);
    CHECK(batch.size() == 1 && batch[0].verified() && batch[0].node_id() == "alice" && !batch[0].inspector());
    CHECK(batch[0].channel() == peerbus::direct_channel(pair.alice_node.id(), pair.bob_node.id(), "misc"));
    CHECK(batch[0].text().find(R"({"hello":"bob"})") != std::string_view::npos);
    pair.alice.send(pair.bob_node.id(), "misc", Content::raw(peerbus::bytes("raw")), 5s, {"room", "net"});
    const Batch second = pair.bob.receive("net", 10s);
    CHECK(second.size() == 1 && second[0].channel().substr(second[0].channel().size() - 10) == "-misc~room");
    CHECK(!pair.bob.query("last_token", Pair::peer(pair.alice_node.id())).empty());
}

static void without_a_set_nobody_is_verified() {
    Node alice(library(), 0, config("alice")), bob(library(), 1, config("bob"));
    alice.connect(bob.addresses());
    alice.send(peerbus::direct_channel(alice.id(), bob.id(), "x"), peerbus::bytes("plain"), 5s);
    const Batch batch = bob.receive(10s);
    CHECK(batch.size() == 1 && !batch[0].verified() && !batch[0].inspector() && batch[0].node_id().empty());
}

static void a_token_of_somebody_else_is_refused() {
    Pair pair;
    pair.alice.set("token", quoted(pair.token("alice", pair.bob_node.id())));
    pair.alice.send(pair.bob_node.id(), "misc", Content::none(), 5s);
    std::string seen;
    while (seen.find("token_peer_mismatch") == std::string::npos) seen += pair.bob_node.events(10s);
    CHECK(pair.bob.receive("net", 0ms).empty());
    CHECK(Json(pair.bob.query("counts")).member("token_peer_mismatch") == "1");
}

static void membership_follows_calls_and_connections() {
    Pair pair;
    const std::string alice = pair.alice_node.id();
    CHECK(Json(*Json(pair.bob.update()).member("added")).member("in") == "[\"" + alice + "\"]");
    CHECK(pair.bob.query("size", R"({"pools":["in"]})") == "1");
    pair.bob.move("out", alice);
    CHECK(pair.bob.try_move("nowhere", alice).code() == PEERBUS_NOT_FOUND);
    CHECK(pair.bob.try_add("in", R"({"id":")" + alice + R"("})").code() == PEERBUS_REFUSED);
    pair.bob.set("role", R"({"peer":")" + alice + R"(","role":5})");
    CHECK(pair.bob.query("role", Pair::peer(alice)) == "5");
    CHECK(pair.bob.try_set("role", R"({"peer":")" + alice + R"(","role":2})").code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(pair.bob.remove(alice, 5s) && !pair.bob.remove(alice, 5s));
    CHECK(pair.bob.query("pool_of", Pair::peer(alice)).empty());
}

static void topics_travel_on_the_network_of_their_owner() {
    Pair pair;
    const auto topic = peerbus::topic_channel(pair.alice_node.id(), "news");
    pair.bob.subscribe(pair.alice_node.id(), topic);
    pair.alice.subscribe(pair.alice_node.id(), topic);
    int reached = 0;
    for (int attempt = 0; reached == 0 && attempt < 200; ++attempt) {
        reached = pair.alice.publish(pair.alice_node.id(), topic, "misc", Content::json("1"), 5s);
        if (reached == 0) pair.alice_node.events(50ms);
    }
    CHECK(reached == 1 && pair.bob.receive("net", 10s)[0].node_id() == "alice");
    pair.bob.unsubscribe(pair.alice_node.id(), topic);
    CHECK(pair.bob.try_subscribe("nobody", "x::ps:y").code() == PEERBUS_NOT_FOUND);
}

static void the_preset_keeps_lists_of_a_world() {
    Node open(library(), 0, config("public")), world(library(), 1, config("world"));
    Pools conn(library(), R"({"preset":"node_conn","public":0,"world":1,"max_connections":100,"policy":"none"})");
    conn.set("world", "\"" + open.id() + "\"");
    CHECK(Json(*Json(conn.query("world")).member("world")).text() == open.id());
    conn.set_world_list("world_agents", R"([{"id":")" + open.id() + R"(","addrs":["/ip4/192.0.2.1/tcp/1"],"misc":1}])");
    CHECK(conn.query("world_agents") == "[\"" + open.id() + "\"]");
    CHECK(conn.try_set_world_list("world_masters", R"([{"id":"x","misc":3}])").code() == PEERBUS_INVALID_ARGUMENT);
    conn.add_to_world_list("world_masters", R"({"id":")" + world.id() + R"(","addrs":null,"misc":3})");
    CHECK(conn.query("count_by_role", R"({"role":3})") == "1");
    CHECK(Json(conn.apply_rendezvous()).member("applied") == "false");
    conn.remove_all_world_agents(5s);
    CHECK(conn.leave_world() == open.id() && conn.leave_world().empty() && conn.query("world_agents") == "[]");
}

static void a_host_can_route_by_itself() {
    Node alice(library(), 0, config("alice")), bob(library(), 1, config("bob"));
    Pools pools(library(), R"({"networks":[{"name":"net","instance":1}],"pools":[{"name":"all","network":"net","capacity":1.0}],)"
                           R"("max_connections":5,"custom_routing":true,"policy":"none"})");
    alice.connect(bob.addresses());
    while (pools.query("unrouted", R"({"network":"net"})") == "[]") bob.events(10s);
    CHECK(pools.try_route("net", R"({")" + alice.id() + R"(":"nowhere"})").code() == PEERBUS_NOT_FOUND);
    pools.route("net", R"({")" + alice.id() + R"(":"all"})");
    CHECK(pools.query("peer_ids") == "[\"" + alice.id() + "\"]");
    pools.disconnect("net", alice.id(), 5s);
}

static void what_waits_runs_in_the_background() {
    Pair pair;
    const auto operation = pair.alice.start("", "PoolsRemove", pair.bob_node.id(), 10s);
    const auto end = operation_end(pair.alice_node);
    CHECK(end.find("\"function\":\"PoolsRemove\"") != std::string::npos && end.find("\"message\":true") != std::string::npos);
    CHECK(pair.alice.query("peer_ids") == "[]");
    CHECK(pair.alice_node.try_cancel(operation).code() == PEERBUS_NOT_FOUND);
    pair.alice.start("net", "PoolsConnect", "[]", 10s);
    CHECK(operation_end(pair.alice_node).find("\"code\":\"INVALID_ARGUMENT\"") != std::string::npos);
    const auto topic = peerbus::topic_channel(pair.bob_node.id(), "news");
    pair.alice.start("", "PoolsSubscribe", R"({"peer":"nobody","channel":")" + topic + R"(","network":"net"})", 10s);
    CHECK(operation_end(pair.alice_node).find("\"state\":\"Success\"") != std::string::npos);
    CHECK(pair.alice.try_start("net", "PoolsUpdate", "", 1s).code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(pair.alice.try_start("moon", "PoolsReserve", "x", 1s).code() == PEERBUS_NOT_FOUND);
}

static void a_set_closes_when_it_dies_and_frees_its_nodes() {
    Node node(library(), 0, config("alice"));
    const std::string keys = set_over(0, R"("policy":"none")");
    { Pools(library(), keys); }
    Pools first(library(), keys);
    CHECK(Pools::try_create(library(), keys).code() == PEERBUS_IN_USE);
    CHECK(first.number() > 0 && !first.created().empty());
    Pools second(std::move(first));
    CHECK(first.try_update().code() == PEERBUS_CLOSED && first.try_receive("net", 0ms).code() == PEERBUS_CLOSED);
    CHECK(first.number() == 0 && second.try_update().ok());
    second.close();
    second.close();
    CHECK(second.try_query("status").code() == PEERBUS_CLOSED);
    CHECK(second.try_send("x", "misc", Content::none(), 0ms).code() == PEERBUS_CLOSED);
    Pools third(library(), keys);
    CHECK(node.try_statistics().ok());
}

static void wrong_arguments_are_errors_with_codes() {
    CHECK(Pools::try_create(library(), R"({"max_connection":1})").code() == PEERBUS_INVALID_CONFIG);
    Node node(library(), 0, config("alice"));
    Pools pools(library(), set_over(0, R"("keep_refused":true)"));
    const std::string_view cut("x\0y", 3);
    CHECK(pools.try_set(cut, "1").code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(pools.try_send(cut, "misc", Content::none(), 0ms).code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(pools.try_query("weather").code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(pools.try_receive("net", 0ms).code() == PEERBUS_INVALID_CONFIG);
    CHECK(pools.try_receive("moon", 0ms).code() == PEERBUS_NOT_FOUND);
    CHECK(pools.try_connect("net", {}, 1s).code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(pools.try_reserve("net", node.id(), 1s).code() != PEERBUS_OK);
    CHECK(pools.try_publish("nobody", "x::ps:y", "misc", Content::none(), 0ms).code() == PEERBUS_NOT_FOUND);
    CHECK(pools.try_apply_rendezvous().code() == PEERBUS_UNSUPPORTED);
}

static void tokens_are_issued_and_verified() {
    for (const char *algorithm : {"EdDSA", "ES256", "RS256"}) {
        const auto key = Tokens::generate_key(algorithm);
        const auto token = Tokens::issue(key.private_key, R"({"node_id":"n","p2p_peers":["p"],"cv_hash":"cv"})");
        const auto good = Tokens::verify(key.public_key, token, "p", R"({"node_id":"n"})");
        CHECK(Json(good).member("valid") == "true");
        CHECK(Json(*Json(*Json(good).member("claims")).member("cv_hash")).text() == "cv");
        CHECK(Json(*Json(Tokens::verify(key.public_key, token, "q")).member("reason")).text() == "token_peer_mismatch");
    }
    CHECK(Tokens::try_generate_key("HS256").code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(Tokens::try_issue("no key", "{}").code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(Tokens::try_verify("no key", "t", "p").code() == PEERBUS_INVALID_ARGUMENT);
}

static const Test tests[] = {
    TEST(a_message_arrives_with_its_verified_node),
    TEST(without_a_set_nobody_is_verified),
    TEST(a_token_of_somebody_else_is_refused),
    TEST(membership_follows_calls_and_connections),
    TEST(topics_travel_on_the_network_of_their_owner),
    TEST(the_preset_keeps_lists_of_a_world),
    TEST(a_host_can_route_by_itself),
    TEST(what_waits_runs_in_the_background),
    TEST(a_set_closes_when_it_dies_and_frees_its_nodes),
    TEST(wrong_arguments_are_errors_with_codes),
    TEST(tokens_are_issued_and_verified),
};

int main(int count, char **arguments) { return run_tests(tests, count, arguments); }
