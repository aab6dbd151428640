// Two nodes in one process, one message. c++ -std=c++17 hello.cpp -lpeerbus; the directory that keeps both identities is
// the argument.
#include <iostream>

#include "peerbus.hpp"

using namespace std::chrono_literals;

static std::string config(const std::string &directory) {
    return R"({"identity_dir":")" + directory + R"(","listen_ips":["127.0.0.1"],"nat":{"port_mapping":false}})";
}

int main(int count, char **arguments) try {
    const std::string directory = count > 1 ? arguments[1] : "hello-peerbus";
    const auto library = peerbus::Library::initialize();
    peerbus::Node alice(library, 0, config(directory + "/alice"));
    peerbus::Node bob(library, 1, config(directory + "/bob"));

    alice.connect(bob.addresses());
    const auto channel = peerbus::direct_channel(alice.id(), bob.id(), "greetings");
    alice.send(channel, peerbus::bytes("hello, bob"), 5s);

    const auto batch = bob.receive(10s);
    for (const peerbus::Message &message : batch) std::cout << message.from() << " says " << message.text() << "\n";
    return batch.empty() ? 1 : 0;
} catch (const peerbus::Error &error) {
    std::cerr << error.what() << "\n";
    return 1;
}
