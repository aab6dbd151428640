// Tests of peerbus.hpp, each run by name: unit <test> <directory>. Without arguments it lists them.
#include "testing.hpp"

#include <poll.h>

#include <cstdio>
#include <thread>

using namespace std::chrono_literals;
using peerbus::Batch, peerbus::Bytes, peerbus::Error, peerbus::Library, peerbus::Node, peerbus::Result;
using peerbus::detail::Json;

template <class Call> peerbus_code thrown_by(Call call) {
    try {
        call();
    } catch (const Error &error) {
        return error.code();
    }
    return PEERBUS_OK;
}

struct Pair {
    Node alice{library(), 0, config("alice")};
    Node bob{library(), 1, config("bob")};
    std::string channel = peerbus::direct_channel(alice.id(), bob.id(), "test");
    Pair() { alice.connect(bob.addresses()); }
};

static_assert(!std::is_copy_constructible_v<Node> && std::is_nothrow_move_constructible_v<Node>);
static_assert(!std::is_copy_constructible_v<Batch> && std::is_nothrow_move_constructible_v<Batch>);
static_assert(!std::is_copy_constructible_v<Library> && !std::is_default_constructible_v<Library>);

static void json_members_are_found_at_the_top_level_only() {
    const Json json(R"( { "a" : {"message":1,"x":[{},"}"]} , "message" : "b\"c" , "n":-1.5e3, "l":[1,[2,3],"]"] } )");
    CHECK(json.member("message") == "\"b\\\"c\"");
    CHECK(json.member("n") == "-1.5e3");
    CHECK(!json.member("x"));
    CHECK(Json(*json.member("l")).entries().size() == 3);
    CHECK(Json("[]").entries().empty() && Json("").entries().empty() && !Json("[]").member("a"));
}

static void json_texts_are_decoded() {
    CHECK(Json(R"("\"\\\/\b\f\n\r\t")").text() == "\"\\/\b\f\n\r\t");
    CHECK(Json(R"("\u0041\u00e9\u20ac\ud83d\ude00")").text() == "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    const std::string every("\x01\"\\\n\x1f plain \xc3\xa9");
    CHECK(Json(Json::quoted(every)).text() == every);
}

static void json_that_is_cut_or_broken_is_never_read_past_its_end() {
    const std::string whole = R"({"state":"Error","message":["\ud83d\ude00\u12",{"a":"\\"}],"code":"T\ud83d"}]})";
    for (std::size_t size = 0; size <= whole.size(); ++size) {
        for (const char replaced : {'\0', '"', '\\', '{', ']', ','}) {
            const std::size_t at = size == 0 ? 0 : size - 1;
            std::vector<char> exact(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
            if (replaced != 0 && size > 0) exact[at] = replaced;
            const std::string_view text(exact.data(), exact.size());
            Json(Json(text).member("code").value_or("")).text();
            for (const auto entry : Json(Json(text).member("message").value_or("")).entries()) Json(entry).text();
            Json(text).text();
        }
    }
}

static void a_bad_configuration_is_an_error_with_code_and_text() {
    const auto result = Node::try_create(library(), 0, R"({"identity_dri":"x"})");
    CHECK(!result && result.code() == PEERBUS_INVALID_CONFIG);
    CHECK(result.failure().message.find("identity_dir") != std::string::npos);
    CHECK(thrown_by([] { Node(library(), 0, "{}"); }) == PEERBUS_INVALID_CONFIG);
    try {
        Node(library(), 0, R"({"identity_dri":"x"})");
    } catch (const Error &error) {
        CHECK(std::string_view(error.what()).substr(0, 16) == "INVALID_CONFIG: ");
    }
}

static void a_text_with_a_nul_byte_is_refused_instead_of_cut() {
    Node node(library(), 0, config("alice"));
    const std::string_view cut("x\0y", 3);
    CHECK(node.try_subscribe(cut).code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(node.try_addresses(cut).code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(node.try_send(cut, peerbus::bytes("data"), 0ms).code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(Node::try_create(library(), 1, cut).code() == PEERBUS_INVALID_ARGUMENT);
}

static void a_node_closes_when_it_dies_and_its_slot_is_free() {
    for (int i = 0; i < 3; ++i) Node(library(), 0, config("alice"));
    Node node(library(), 0, config("alice"));
    CHECK(thrown_by([] { Node(library(), 0, config("other")); }) == PEERBUS_IN_USE);
}

static void a_moved_node_stays_open_and_the_old_object_is_closed() {
    Node first(library(), 0, config("alice"));
    const std::string id = first.id();
    CHECK(id.substr(0, 4) == "12D3");
    Node second(std::move(first));
    CHECK(second.id() == id && !second.addresses().empty());
    CHECK(first.try_addresses().code() == PEERBUS_CLOSED);
    CHECK(first.try_close().ok());
    Node third(library(), 1, config("bob"));
    third = std::move(second);
    CHECK(third.id() == id && !third.addresses().empty());
    Node reused(library(), 1, config("bob"));
}

static void a_closed_node_answers_closed_also_when_its_slot_has_another_node() {
    Node first(library(), 0, config("alice"));
    first.close();
    first.close();
    CHECK(first.try_statistics().code() == PEERBUS_CLOSED);
    Node second(library(), 0, config("bob"));
    CHECK(first.try_statistics().code() == PEERBUS_CLOSED);
    CHECK(first.try_receive(0ms).code() == PEERBUS_CLOSED);
    CHECK(second.try_statistics().ok());
}

static void a_message_travels_and_its_batch_outlives_the_node() {
    Batch batch;
    std::string alice_id, channel;
    {
        Pair pair;
        alice_id = pair.alice.id();
        channel = pair.channel;
        const std::vector<std::uint8_t> large(100000, 7);
        pair.alice.send(channel, peerbus::bytes("hello"), 5s);
        pair.alice.send(channel, large, 5s);
        pair.alice.flush(channel, 5s);
        Batch first = pair.bob.receive_from(channel, 10s, {1, 0});
        CHECK(first.size() == 1 && first[0].text() == "hello");
        batch = pair.bob.receive(10s);
    }
    CHECK(batch.size() == 1 && batch[0].data().size() == 100000 && batch[0].data()[99999] == 7);
    CHECK(batch[0].from() == alice_id && batch[0].channel() == channel && batch[0].gap() == 0);
    CHECK(!batch[0].protocol().empty());
    Batch moved(std::move(batch));
    CHECK(batch.empty() && batch.begin() == batch.end() && moved.size() == 1);
    Batch &same = moved;
    moved = std::move(same);
    CHECK(moved.size() == 1);
}

static void a_channel_handle_gives_ids_and_tells_how_far_messages_are() {
    Pair pair;
    Node &sender = pair.alice, &receiver = pair.bob;
    peerbus::Channel moved = sender.channel(pair.channel);
    peerbus::Channel channel = std::move(moved);
    CHECK(channel.send(peerbus::bytes("one"), 5s) == 1);
    const auto sent = channel.send_batch({peerbus::bytes("two"), peerbus::bytes("three")}, 5s);
    CHECK(sent.first == 2 && sent.count == 2);
    channel.wait(3, PEERBUS_ACCEPTED, 20s);
    std::size_t received = 0;
    while (received < 3) received += receiver.receive(20s).size();
    channel.wait(3, PEERBUS_TAKEN, 20s);
    CHECK(sender.channel_info(channel.name()).find("/peerbus/channel/1.0.0") != std::string::npos);
    CHECK(channel.try_wait(4, PEERBUS_SENT, 0s).code() == PEERBUS_INVALID_ARGUMENT);
    channel.configure(R"({"class":"bulk","compression":["zstd"]})");
    CHECK(sender.channel_info(channel.name()).find("\"bulk\"") != std::string::npos);
    CHECK(channel.try_configure(R"({"class":"fast"})").code() == PEERBUS_INVALID_ARGUMENT);
    channel.close();
    CHECK(channel.try_send(peerbus::bytes("x"), 0s).code() == PEERBUS_INVALID_ARGUMENT);
}

// The text of a member of a JSON object.
static std::string field(const std::string &json, std::string_view name) {
    return Json(Json(json).member(name).value_or("")).text();
}

static void a_webrtc_connection_opens_beside_a_direct_one_and_closes() {
    Pair pair;
    CHECK(pair.alice.webrtc_connections() == "[]");
    const auto opened = pair.alice.initiate_webrtc(pair.bob.id());
    CHECK(field(opened, "kind") == "session" && field(opened, "peer_id") == pair.bob.id());
    const auto list = pair.alice.webrtc_connections();
    const auto listed = Json(list).entries();
    CHECK(listed.size() == 1 && field(std::string(listed[0]), "state") == "open");
    CHECK(pair.alice.try_initiate_webrtc(pair.bob.id()).code() == PEERBUS_REFUSED);
    pair.alice.close_webrtc(pair.bob.id());
    pair.alice.close_webrtc(pair.bob.id());
    CHECK(pair.alice.webrtc_connections() == "[]");
}

static void a_webrtc_connection_replaces_a_relayed_one() {
    Node relay(library(), 2, config("relay", R"(,"relay":{"enable_service":true},"network":{"force_public":true})"));
    Node alice(library(), 0, config("alice")), bob(library(), 1, config("bob"));
    bob.connect(relay.addresses());
    bob.reserve_on_relay(relay.id());
    alice.connect({relay.addresses()[0] + "/p2p-circuit/p2p/" + bob.id()});
    CHECK(field(alice.initiate_webrtc(bob.id()), "kind") == "connection");
    CHECK(field(field(alice.diagnose(), "connections"), "relayed") == "0");
    const auto channel = peerbus::direct_channel(alice.id(), bob.id(), "test");
    alice.send(channel, peerbus::bytes("by webrtc"), 5s);
    CHECK(bob.receive(10s)[0].text() == "by webrtc");
    CHECK(alice.try_reserve_on_relay(bob.id()).code() == PEERBUS_REFUSED);
}

static void ice_servers_are_replaced_one_kind_at_a_time() {
    Pair pair;
    const auto servers = [&](std::string_view kind) { return field(field(pair.alice.diagnose(), "webrtc"), kind); };
    pair.alice.set_ice_config(
        R"({"stun_servers":["stun:127.0.0.1:9"],"turn_servers":[{"urls":"turn:127.0.0.1:9","username":"u","credential":"c"}]})");
    CHECK(servers("stun_servers") == R"(["stun:127.0.0.1:9"])" && servers("turn_servers") == R"(["turn:127.0.0.1:9"])");
    pair.alice.set_ice_config(R"({"stun_servers":[]})");
    CHECK(servers("stun_servers") == "[]" && servers("turn_servers") == R"(["turn:127.0.0.1:9"])");
    CHECK(pair.alice.try_set_ice_config(R"({"stun_servers":["http://x"]})").code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(thrown_by([&] { pair.alice.set_ice_config("["); }) == PEERBUS_INVALID_ARGUMENT);
}

static void webrtc_without_a_connection_is_an_error() {
    Pair pair;
    pair.alice.disconnect(pair.bob.id());
    CHECK(pair.alice.try_initiate_webrtc(pair.bob.id()).code() == PEERBUS_NOT_CONNECTED);
    CHECK(pair.alice.try_initiate_webrtc("nobody").code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(pair.alice.try_close_webrtc("nobody").code() == PEERBUS_INVALID_ARGUMENT);
    pair.alice.close();
    CHECK(pair.alice.try_webrtc_connections().code() == PEERBUS_CLOSED);
}

static void nothing_waiting_is_an_empty_success() {
    Node node(library(), 0, config("alice"));
    CHECK(node.receive(0ms).empty());
    while (!node.events(0ms).empty()) {}
    CHECK(node.rendezvous_peers().empty());
    CHECK(node.waiting() == 0 && node.peers() == "[]" && !node.is_public());
}

static void sending_now_reports_what_the_transport_says() {
    Pair pair;
    pair.alice.send_now(pair.channel, peerbus::bytes("now"));
    CHECK(pair.bob.receive(10s)[0].text() == "now");
    CHECK(pair.alice.try_send_now(pair.channel, Bytes()).code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(pair.alice.try_send_now("no channel", peerbus::bytes("x")).code() == PEERBUS_INVALID_ARGUMENT);
}

static void topics_reach_their_subscribers() {
    Pair pair;
    const auto topic = peerbus::topic_channel(pair.alice.id(), "news");
    pair.bob.subscribe(topic);
    pair.alice.wait_for_topic_peers(topic, 1, 10s);
    CHECK(pair.alice.publish(topic, peerbus::bytes("extra"), 5s) == 1);
    CHECK(pair.bob.receive(10s)[0].text() == "extra");
    CHECK(pair.alice.topic_peers() == "[\"" + pair.bob.id() + "\"]");
    const auto published = pair.alice.publish_batch(topic, {peerbus::bytes("one"), peerbus::bytes("two")}, 5s);
    CHECK(published.size() == 2 && published[0].peers == 1 && published[0].id < published[1].id);
    std::string received;
    while (received.size() < 6) {
        for (const auto &message : pair.bob.receive(10s)) received += message.text();
    }
    CHECK(received == "onetwo");
    CHECK(pair.alice.try_publish_batch(topic, {}, 5s).code() == PEERBUS_INVALID_ARGUMENT);
    pair.alice.set_topic_rules(topic, "{\"max_bytes\":3}");
    CHECK(pair.alice.try_publish(topic, peerbus::bytes("four"), 5s).code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(pair.alice.try_set_topic_rules(topic, "{}{}").code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(pair.alice.try_wait_for_topic_peers(topic, 2, 0s).code() == PEERBUS_TIMEOUT);
    pair.bob.unsubscribe(topic);
}

static void a_direct_topic_says_who_has_its_messages() {
    Pair pair;
    const auto topic = peerbus::topic_channel(pair.alice.id(), "news");
    pair.alice.open_topic(topic, R"({"mode":"direct","overflow":"drop_oldest"})");
    pair.bob.open_topic(topic, R"({"mode":"direct"})");
    pair.bob.subscribe(topic);
    pair.alice.wait_for_topic_peers(topic, 1, 10s);
    const auto published = pair.alice.publish_batch(topic, {peerbus::bytes("one"), peerbus::bytes("two")}, 5s);
    CHECK(published.size() == 2 && published[1].peers == 1 && published[1].missed == 0);
    CHECK(published[1].id == published[0].id + 1);
    std::string received;
    while (received.size() < 6) {
        for (const auto &message : pair.bob.receive(10s)) received += message.text();
    }
    CHECK(received == "onetwo");
    const auto info = pair.alice.topic_info(topic);
    CHECK(info.find(R"("overflow":"drop_oldest")") != std::string::npos && info.find(pair.bob.id()) != std::string::npos);
    CHECK(pair.alice.try_open_topic(topic, R"({"mode":"loud"})").code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(pair.bob.try_open_topic(topic, R"({"mode":"gossip"})").code() == PEERBUS_REFUSED);
    CHECK(pair.alice.try_topic_info(topic + "?").code() == PEERBUS_NOT_FOUND);
}

static void a_wait_ends_by_interrupt_and_by_close() {
    Node node(library(), 0, config("alice"));
    pollfd wake{node.wake_descriptor(PEERBUS_WAKE_MESSAGES), POLLIN, 0};
    node.interrupt();
    CHECK(poll(&wake, 1, 0) == 1);
    CHECK(node.try_receive(10s).code() == PEERBUS_INTERRUPTED);
    peerbus_code ended = PEERBUS_OK;
    std::thread waiter([&] { ended = node.try_receive(60s).code(); });
    node.close();
    waiter.join();
    CHECK(ended == PEERBUS_CLOSED);
}

static void operations_run_in_the_background() {
    Node node(library(), 0, config("alice"));
    const auto topic = peerbus::topic_channel(node.id(), "news");
    const auto operation = node.start("SubscribeToTopic", topic, 5s);
    CHECK(operation > 0);
    CHECK(operation_end(node).find("\"state\":\"Success\"") != std::string::npos);
    node.start("SubscribeToTopic", "no topic", 5s);
    CHECK(operation_end(node).find("\"code\":\"INVALID_ARGUMENT\"") != std::string::npos);
    CHECK(node.try_cancel(operation).code() == PEERBUS_NOT_FOUND);
    CHECK(node.try_start("NoSuchFunction", "", 5s).code() == PEERBUS_INVALID_ARGUMENT);
}

static void times_outside_the_range_are_refused() {
    Node node(library(), 0, config("alice"));
    CHECK(node.try_receive(-1ms).code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(node.try_receive(std::chrono::hours(24 * 365 * 100)).code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(node.try_events(-1ms).code() == PEERBUS_INVALID_ARGUMENT);
}

static void an_unreachable_peer_is_an_error() {
    Pair pair;
    const auto addresses = pair.bob.addresses();
    const auto bob = pair.bob.id();
    pair.alice.disconnect(bob);
    pair.bob.close();
    CHECK(pair.alice.try_connect(addresses).code() == PEERBUS_UNREACHABLE);
    CHECK(pair.alice.try_connect({}).code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(pair.alice.try_set_policy(pair.channel, static_cast<peerbus_policy>(9)).code() == PEERBUS_INVALID_ARGUMENT);
}

static void library_functions() {
    CHECK(!Library::version().empty());
    CHECK(Library::try_configure_runtime(R"({"gc_percent":100})").ok());
    CHECK(Library::try_configure_runtime("[").code() != PEERBUS_OK);
    CHECK(Library::try_log_to(-5).code() == PEERBUS_INVALID_ARGUMENT);
    CHECK(Library::dump_stacks().find("goroutine") != std::string::npos);
    Node node(library(), 0, config("alice"));
    CHECK(Library::close_all() == "\"1 closed, 0 failed\"");
}

static const Test tests[] = {
    TEST(json_members_are_found_at_the_top_level_only),
    TEST(json_texts_are_decoded),
    TEST(json_that_is_cut_or_broken_is_never_read_past_its_end),
    TEST(a_bad_configuration_is_an_error_with_code_and_text),
    TEST(a_text_with_a_nul_byte_is_refused_instead_of_cut),
    TEST(a_node_closes_when_it_dies_and_its_slot_is_free),
    TEST(a_moved_node_stays_open_and_the_old_object_is_closed),
    TEST(a_closed_node_answers_closed_also_when_its_slot_has_another_node),
    TEST(a_message_travels_and_its_batch_outlives_the_node),
    TEST(a_channel_handle_gives_ids_and_tells_how_far_messages_are),
    TEST(a_webrtc_connection_opens_beside_a_direct_one_and_closes),
    TEST(a_webrtc_connection_replaces_a_relayed_one),
    TEST(ice_servers_are_replaced_one_kind_at_a_time),
    TEST(webrtc_without_a_connection_is_an_error),
    TEST(nothing_waiting_is_an_empty_success),
    TEST(sending_now_reports_what_the_transport_says),
    TEST(topics_reach_their_subscribers),
    TEST(a_direct_topic_says_who_has_its_messages),
    TEST(a_wait_ends_by_interrupt_and_by_close),
    TEST(operations_run_in_the_background),
    TEST(times_outside_the_range_are_refused),
    TEST(an_unreachable_peer_is_an_error),
    TEST(library_functions),
};

int main(int count, char **arguments) { return run_tests(tests, count, arguments); }
