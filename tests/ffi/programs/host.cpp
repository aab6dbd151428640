// The same program as host.c, in C++ on peerbus.hpp. Failures are "error <code> <text>".
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <thread>

#include "peerbus.hpp"

using peerbus::Milliseconds, peerbus::Node, peerbus::Result;
using Fields = std::vector<std::string>;

static std::map<int, Node> nodes;

static int number(const Fields &fields, std::size_t at) { return std::stoi(fields.at(at)); }
static Node &node(const Fields &fields, std::size_t at = 1) { return nodes.at(number(fields, at)); }
static Milliseconds time(const Fields &fields, std::size_t at) { return Milliseconds(number(fields, at)); }

static std::uint32_t crc32(peerbus::Bytes data) {
    static const auto table = [] {
        std::array<std::uint32_t, 256> sums{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            sums[i] = i;
            for (int bit = 0; bit < 8; ++bit) sums[i] = (sums[i] >> 1) ^ (sums[i] & 1 ? 0xEDB88320u : 0);
        }
        return sums;
    }();
    std::uint32_t sum = ~0u;
    for (const auto byte : data) sum = (sum >> 8) ^ table[(sum ^ byte) & 255];
    return ~sum;
}

static std::vector<std::uint8_t> payload(int size, int seed) {
    std::vector<std::uint8_t> data(static_cast<std::size_t>(size));
    for (std::size_t i = 0; i < data.size(); ++i)
        data[i] = static_cast<std::uint8_t>(i * 31 + (i >> 8) + static_cast<std::size_t>(seed));
    return data;
}

static std::string list(const std::vector<std::string> &texts) {
    std::string json = "[";
    for (const auto &text : texts) json += (json.size() > 1 ? ",\"" : "\"") + text + "\"";
    return json + "]";
}

static Result<std::string> nothing(Result<void> done) {
    return done ? Result<std::string>("null") : Result<std::string>(done.failure());
}

static Result<std::string> text(Result<std::vector<std::string>> all) {
    return all ? Result<std::string>(list(all.value())) : Result<std::string>(all.failure());
}

static Result<std::string> number_text(Result<int> count) {
    return count ? Result<std::string>(std::to_string(count.value())) : Result<std::string>(count.failure());
}

static Result<std::string> create(int slot, const std::string &config) {
    static const auto library = peerbus::Library::initialize();
    auto created = Node::try_create(library, slot, config);
    if (!created) return created.failure();
    nodes.erase(slot);
    nodes.emplace(slot, std::move(created).value());
    return "{\"addresses\":" + list(nodes.at(slot).addresses()) + "}";
}

static Result<std::string> connect(Node &from, const std::string &json) {
    std::vector<std::string> addresses;
    for (const auto entry : peerbus::detail::Json(json).entries()) addresses.push_back(peerbus::detail::Json(entry).text());
    return from.try_connect(addresses);
}

static Result<std::string> control(const Fields &fields) {
    const std::string &name = fields.at(1);
    if (name == "CreateNode") return create(number(fields, 2), fields.at(3));
    Node &on = node(fields, 2);
    if (name == "CloseNode") return nothing(on.try_close());
    if (name == "GetNodeAddresses") return text(on.try_addresses(fields.at(3)));
    if (name == "GetStatistics") return on.try_statistics();
    if (name == "ConnectTo") return connect(on, fields.at(3));
    if (name == "DisconnectFrom") return nothing(on.try_disconnect(fields.at(3)));
    if (name == "GetConnectedPeers") return on.try_peers();
    if (name == "SubscribeToTopic") return nothing(on.try_subscribe(fields.at(3)));
    if (name == "UnsubscribeFromTopic") return nothing(on.try_unsubscribe(fields.at(3)));
    if (name == "GetTopicPeers") return on.try_topic_peers();
    if (name == "GetTopicInfo") return on.try_topic_info(fields.at(3));
    throw std::invalid_argument(name);
}

static void answer(const Result<std::string> &result) {
    if (result) std::cout << "ok\t" << result.value() << std::endl;
    else std::cout << "error\t" << peerbus_code_name(result.code()) << "\t" << result.failure().message << std::endl;
}

static void send_many(const Fields &fields) {
    int taken = 0;
    peerbus_code code = PEERBUS_OK;
    for (; taken < number(fields, 3); ++taken) {
        const auto data = payload(number(fields, 4), number(fields, 5) + taken);
        code = node(fields).try_send(fields.at(2), data, time(fields, 6)).code();
        if (code != PEERBUS_OK) break;
    }
    std::cout << "int\t" << taken << "\t" << peerbus_code_name(code) << std::endl;
}

static void publish_batch(const Fields &fields) {
    std::vector<std::vector<std::uint8_t>> payloads;
    for (int i = 0; i < number(fields, 3); ++i) payloads.push_back(payload(number(fields, 4), number(fields, 5) + i));
    const std::vector<peerbus::Bytes> messages(payloads.begin(), payloads.end());
    const auto published = node(fields).try_publish_batch(fields.at(2), messages, time(fields, 6));
    if (!published) return answer(published.failure());
    const auto &all = published.value();
    std::cout << "published\t" << all.size() << "\t" << all.front().id << "\t" << all.back().peers << "\t" << all.back().missed
              << std::endl;
}

static void receive(const Fields &fields) {
    const Node::ReceiveLimits limits{number(fields, 3), static_cast<std::size_t>(number(fields, 4))};
    auto received = fields.at(2) == "*" ? node(fields).try_receive(time(fields, 5), limits)
                                        : node(fields).try_receive_from(fields.at(2), time(fields, 5), limits);
    if (!received) return answer(received.failure());
    std::cout << "batch\t" << received.value().size();
    for (const auto &m : received.value())
        std::cout << "\t" << m.from() << " " << m.channel() << " " << m.protocol() << " " << m.gap() << " "
                  << m.data().size() << " " << crc32(m.data());
    std::cout << std::endl;
}

static void poll_descriptor(const Fields &fields) {
    const int waiter = epoll_create1(0);
    epoll_event event{};
    event.events = EPOLLIN;
    int ready = epoll_ctl(waiter, EPOLL_CTL_ADD, number(fields, 1), &event);
    if (ready == 0) ready = epoll_wait(waiter, &event, 1, number(fields, 2));
    close(waiter);
    std::cout << "int\t" << ready << "\t" << std::endl;
}

static void end_a_wait(const Fields &fields) {
    peerbus_code got = PEERBUS_OK;
    Node &on = node(fields);
    std::thread thread([&] { got = on.try_receive(time(fields, 2)).code(); });
    if (fields.at(3) == "close") on.close();
    else on.interrupt();
    thread.join();
    std::cout << "int\t" << got << "\t" << std::endl;
}

static void obey(const Fields &fields) {
    const std::string &command = fields.at(0);
    const auto data = [&] { return payload(number(fields, 3), number(fields, 4)); };
    if (command == "control") answer(control(fields));
    else if (command == "events") answer(node(fields).try_events(time(fields, 3), number(fields, 2)));
    else if (command == "send") send_many(fields);
    else if (command == "send_now") answer(nothing(node(fields).try_send_now(fields.at(2), data())));
    else if (command == "publish") answer(number_text(node(fields).try_publish(fields.at(2), data(), time(fields, 5))));
    else if (command == "publish_batch") publish_batch(fields);
    else if (command == "open") answer(nothing(node(fields).try_open_topic(fields.at(2), fields.at(3))));
    else if (command == "receive") receive(fields);
    else if (command == "flush") answer(nothing(node(fields).try_flush(fields.at(2), time(fields, 3))));
    else if (command == "interrupt") answer(nothing(node(fields).try_interrupt()));
    else if (command == "policy")
        answer(nothing(node(fields).try_set_policy(fields.at(2), static_cast<peerbus_policy>(number(fields, 3)))));
    else if (command == "wake")
        answer(number_text(node(fields).try_wake_descriptor(static_cast<peerbus_wake>(number(fields, 2)))));
    else if (command == "poll") poll_descriptor(fields);
    else if (command == "end_a_wait") end_a_wait(fields);
    else throw std::invalid_argument(command);
}

int main() {
    std::string line;
    while (std::getline(std::cin, line)) {
        Fields fields;
        std::istringstream parts(line);
        for (std::string field; std::getline(parts, field, '\t');) fields.push_back(field);
        fields.resize(8);
        obey(fields);
    }
    return 0;
}
