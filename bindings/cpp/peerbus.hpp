// peerbus.hpp - peerbus for C++17 and later: RAII over peerbus.h, one header, standard library only.
//
// Every call comes twice: `node.send(...)` throws peerbus::Error, `node.try_send(...)` returns peerbus::Result. Both carry
// the peerbus_code and the library's text. peerbus.h is the manual: times, limits, threads and fork are as written there.
//
// Answers of control functions are handed over as raw JSON text (the envelope is taken off), for the JSON library of your
// choice. What a program cannot start without is decoded here: Node::id, Node::addresses, and operation numbers.
//
// A call that found nothing is a success with an empty value: an empty Batch, or empty text where JSON is returned.
#ifndef PEERBUS_HPP
#define PEERBUS_HPP

#include <atomic>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "peerbus.h"

#if __cplusplus >= 202002L || (defined(_MSVC_LANG) && _MSVC_LANG >= 202002L)
#include <span>
#define PEERBUS_CPP_ABI with_span
#else
#define PEERBUS_CPP_ABI with_view
#endif

namespace peerbus {
// Units of one program compiled for different standards see different Bytes; the inline namespace keeps them apart.
inline namespace PEERBUS_CPP_ABI {

using Milliseconds = std::chrono::milliseconds;

// Bytes looks at memory that somebody else owns.
#if __cplusplus >= 202002L || (defined(_MSVC_LANG) && _MSVC_LANG >= 202002L)
using Bytes = std::span<const std::uint8_t>;
#else
class Bytes {
public:
    constexpr Bytes() noexcept = default;
    constexpr Bytes(const std::uint8_t *data, std::size_t size) noexcept : data_(data), size_(size) {}
    template <class Container, class = std::enable_if_t<std::is_convertible_v<
                                   decltype(std::declval<const Container &>().data()), const std::uint8_t *>>>
    constexpr Bytes(const Container &container) noexcept : data_(container.data()), size_(container.size()) {}

    constexpr const std::uint8_t *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr const std::uint8_t *begin() const noexcept { return data_; }
    constexpr const std::uint8_t *end() const noexcept { return data_ + size_; }
    constexpr const std::uint8_t &operator[](std::size_t index) const noexcept { return data_[index]; }

private:
    const std::uint8_t *data_ = nullptr;
    std::size_t size_ = 0;
};
#endif

inline Bytes bytes(std::string_view text) noexcept {
    return {reinterpret_cast<const std::uint8_t *>(text.data()), text.size()};
}

// ---- Errors ----

struct Failure {
    peerbus_code code = PEERBUS_INTERNAL;
    std::string message;
};

class Error : public std::runtime_error {
public:
    explicit Error(const Failure &failure)
        : std::runtime_error(std::string(peerbus_code_name(failure.code)) + ": " + failure.message),
          code_(failure.code) {}

    peerbus_code code() const noexcept { return code_; }

private:
    peerbus_code code_;
};

// Result holds a value or a Failure. value() throws Error when it holds a Failure.
template <class T> class [[nodiscard]] Result {
public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Failure failure) : state_(std::in_place_index<1>, std::move(failure)) {}

    bool ok() const noexcept { return state_.index() == 0; }
    explicit operator bool() const noexcept { return ok(); }
    peerbus_code code() const noexcept { return ok() ? PEERBUS_OK : std::get_if<1>(&state_)->code; }
    // Only for results that are not ok().
    const Failure &failure() const { return std::get<1>(state_); }

    T &value() & { return require(), *std::get_if<0>(&state_); }
    const T &value() const & { return require(), *std::get_if<0>(&state_); }
    T value() && { return require(), std::move(*std::get_if<0>(&state_)); }

private:
    void require() const {
        if (!ok()) throw Error(failure());
    }

    std::variant<T, Failure> state_;
};

template <> class [[nodiscard]] Result<void> {
public:
    Result() = default;
    Result(Failure failure) : failure_(std::move(failure)) {}

    bool ok() const noexcept { return !failure_; }
    explicit operator bool() const noexcept { return ok(); }
    peerbus_code code() const noexcept { return failure_ ? failure_->code : PEERBUS_OK; }
    const Failure &failure() const { return failure_.value(); }
    void value() const {
        if (failure_) throw Error(*failure_);
    }

private:
    std::optional<Failure> failure_;
};

// ---- What stands between C and C++ ----

namespace detail {

// Json walks one JSON value of the library without building a tree. Its answers are trusted to be JSON, yet nothing here
// reads past the text or recurses, whatever it holds.
class Json {
public:
    explicit Json(std::string_view text) noexcept : text_(text) {}

    // The raw text of a member of this object, or nothing.
    std::optional<std::string_view> member(std::string_view name) const {
        std::optional<std::string_view> found;
        visit('{', [&](std::string_view key, std::string_view value) {
            if (!found && Json(key).text() == name) found = value;
        });
        return found;
    }

    // The raw texts of this list's entries.
    std::vector<std::string_view> entries() const {
        std::vector<std::string_view> all;
        visit('[', [&](std::string_view, std::string_view value) { all.push_back(value); });
        return all;
    }

    // This value as text: a string is decoded, anything else stays as it is.
    std::string text() const {
        if (text_.size() < 2 || text_.front() != '"') return std::string(text_);
        std::string decoded;
        for (std::size_t i = 1; i + 1 < text_.size(); ++i) {
            if (text_[i] != '\\') decoded += text_[i];
            else i = unescape(i + 1, decoded);
        }
        return decoded;
    }

    static std::string quoted(std::string_view text) {
        static constexpr char digits[] = "0123456789abcdef";
        std::string json = "\"";
        for (const char c : text) {
            const auto byte = static_cast<unsigned char>(c);
            if (c == '"' || c == '\\') (json += '\\') += c;
            else if (byte < 0x20) ((json += "\\u00") += digits[byte >> 4]) += digits[byte & 15];
            else json += c;
        }
        return json += '"';
    }

private:
    // Calls each(key, value) for the members or entries directly below the opening bracket.
    template <class Each> void visit(char open, Each each) const {
        std::size_t at = space(0);
        if (at >= text_.size() || text_[at] != open) return;
        at = space(at + 1);
        while (at < text_.size() && text_[at] != '}' && text_[at] != ']') {
            std::string_view key;
            if (open == '{') {
                const std::size_t end = skip(at);
                key = trimmed(at, end);
                at = space(end);
                at = space(at < text_.size() ? at + 1 : at);
            }
            const std::size_t end = skip(at);
            each(key, trimmed(at, end));
            at = space(end);
            if (at < text_.size() && text_[at] == ',') at = space(at + 1);
            else return;
        }
    }

    std::size_t space(std::size_t at) const {
        while (at < text_.size() && is_space(text_[at])) ++at;
        return at;
    }

    std::string_view trimmed(std::size_t at, std::size_t end) const {
        while (end > at && is_space(text_[end - 1])) --end;
        return text_.substr(at, end - at);
    }

    static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

    // The position after the value that starts at `at`.
    std::size_t skip(std::size_t at) const {
        std::size_t depth = 0;
        for (bool quoted = false; at < text_.size(); ++at) {
            const char c = text_[at];
            if (quoted) {
                if (c == '\\') ++at;
                else if (c == '"') quoted = false;
            } else if (c == '"') {
                quoted = true;
            } else if (c == '{' || c == '[') {
                ++depth;
            } else if (depth == 0 && (c == ',' || c == ':' || c == '}' || c == ']')) {
                return at;
            } else if (c == '}' || c == ']') {
                --depth;
            }
        }
        return text_.size();
    }

    // Appends the character of the escape at `at` (after the backslash); returns the position of its last byte.
    std::size_t unescape(std::size_t at, std::string &to) const {
        static constexpr std::string_view letters = "bfnrt", meanings = "\b\f\n\r\t";
        if (at >= text_.size()) return at;
        if (text_[at] != 'u') {
            const std::size_t letter = letters.find(text_[at]);
            to += letter == std::string_view::npos ? text_[at] : meanings[letter];
            return at;
        }
        std::uint32_t unit = hex4(at + 1);
        at += 4;
        if (unit >= 0xD800 && unit < 0xDC00 && at + 2 < text_.size() && text_.substr(at + 1, 2) == "\\u") {
            const std::uint32_t low = hex4(at + 3);
            if (low >= 0xDC00 && low < 0xE000) {
                unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                at += 6;
            }
        }
        append(unit, to);
        return at;
    }

    std::uint32_t hex4(std::size_t at) const {
        std::uint32_t value = 0;
        for (const char c : at < text_.size() ? text_.substr(at, 4) : std::string_view()) {
            const std::size_t digit = std::string_view("0123456789abcdef").find(static_cast<char>(c | 0x20));
            value = value * 16 + (digit == std::string_view::npos ? 0 : static_cast<std::uint32_t>(digit));
        }
        return value;
    }

    static void append(std::uint32_t character, std::string &to) {
        const auto tail = [&](unsigned shift) { to += static_cast<char>(0x80 | ((character >> shift) & 0x3F)); };
        if (character < 0x80) {
            to += static_cast<char>(character);
        } else if (character < 0x800) {
            to += static_cast<char>(0xC0 | (character >> 6)), tail(0);
        } else if (character < 0x10000) {
            to += static_cast<char>(0xE0 | (character >> 12)), tail(6), tail(0);
        } else {
            to += static_cast<char>(0xF0 | (character >> 18)), tail(12), tail(6), tail(0);
        }
    }

    std::string_view text_;
};

inline peerbus_code code_named(std::string_view name) {
    for (int code = -1; std::string_view(peerbus_code_name(code)) != "UNKNOWN"; --code)
        if (name == peerbus_code_name(code)) return static_cast<peerbus_code>(code);
    return PEERBUS_INTERNAL;
}

// Text holds a NUL-terminated copy of an argument. A NUL inside would silently shorten it, so it makes the call fail.
class Text {
public:
    explicit Text(std::string_view text) : text_(text) {}
    bool cut() const noexcept { return text_.find('\0') != std::string::npos; }
    const char *c_str() const noexcept { return text_.c_str(); }

private:
    std::string text_;
};

template <class... Texts> std::optional<Failure> cut(const Texts &...texts) {
    if ((texts.cut() || ...)) return Failure{PEERBUS_INVALID_ARGUMENT, "a text argument contains a NUL byte"};
    return std::nullopt;
}

inline std::string list_json(const std::vector<std::string> &texts) {
    std::string json = "[";
    for (const auto &text : texts) (json += json.size() > 1 ? "," : "") += Json::quoted(text);
    return json += "]";
}

// Takes the envelope off and frees it.
inline Result<std::string> answer(char *envelope) {
    if (envelope == nullptr) return Failure{PEERBUS_NO_MEMORY, "the library could not allocate its answer"};
    struct Free {
        char *text;
        ~Free() { FreeString(text); }
    } owner{envelope};
    const Json json{std::string_view(envelope)};
    const auto field = [&](std::string_view name) { return Json(json.member(name).value_or("")); };
    const std::string state = field("state").text();
    if (state == "Error") return Failure{code_named(field("code").text()), field("message").text()};
    return std::string(json.member("message").value_or(""));
}

inline Result<void> done(Result<std::string> answered) {
    return answered ? Result<void>() : Result<void>(answered.failure());
}

// Times outside int stay out of range, so that the library refuses them.
inline int milliseconds(Milliseconds time) noexcept {
    if (time.count() < 0) return -1;
    return time.count() > INT_MAX ? INT_MAX : static_cast<int>(time.count());
}

} // namespace detail

// ---- Library ----

// Library is the proof that InitializeLibrary was called; a Node asks for it. 0 stands for the library's default.
class Library {
public:
    struct Options {
        int max_instances = 0;
        int max_channels = 0;
        int max_queue_messages = 0;
        int max_message_bytes = 0;
        std::string log_config; // {"<logger>":"<level>"}; "" is silence
    };

    // UNSUPPORTED when the loaded library has another binary interface than this header.
    static Result<Library> try_initialize(const Options &options) {
        if (LibraryABI() != PEERBUS_ABI)
            return Failure{PEERBUS_UNSUPPORTED, "the loaded peerbus library has ABI " + std::to_string(LibraryABI()) +
                                                    ", this program was compiled for " + std::to_string(PEERBUS_ABI)};
        InitializeLibrary(options.max_instances, options.max_channels, options.max_queue_messages,
                          options.max_message_bytes,
                          options.log_config.empty() ? nullptr : options.log_config.c_str());
        return Library();
    }
    static Result<Library> try_initialize() { return try_initialize(Options()); }
    static Library initialize(const Options &options) { return try_initialize(options).value(); }
    static Library initialize() { return try_initialize().value(); }

    Library(Library &&) noexcept = default;
    Library &operator=(Library &&) noexcept = default;

    static std::string_view version() noexcept { return LibraryVersion(); }

    static Result<void> try_log_to(int descriptor) { 
        const int code = SetLogDescriptor(descriptor);
        if (code < 0) return Failure{static_cast<peerbus_code>(code), peerbus_last_error()};
        return {};
    }
    static void log_to(int descriptor) { try_log_to(descriptor).value(); }

    // Answer: the values in force, JSON.
    static Result<std::string> try_configure_runtime(std::string_view config) {
        const detail::Text text(config);
        if (auto failure = detail::cut(text)) return *failure;
        return detail::answer(ConfigureRuntime(text.c_str()));
    }
    static std::string configure_runtime(std::string_view config) { return try_configure_runtime(config).value(); }

    // Every goroutine's stack, for a bug report; "" in a forked child.
    static std::string dump_stacks() {
        char *stacks = DumpStacks();
        std::string text = stacks == nullptr ? "" : stacks;
        FreeString(stacks);
        return text;
    }

    // Closes the nodes of the whole process, those of other owners too. Answer: "n closed, m failed".
    static Result<std::string> try_close_all() { return detail::answer(CloseNode(-1)); }
    static std::string close_all() { return try_close_all().value(); }

private:
    Library() = default;
};

// ---- Messages ----

// Message looks into a Batch, which must outlive it.
class Message {
public:
    explicit Message(const peerbus_message &message) noexcept : message_(&message) {}

    Bytes data() const noexcept { return {message_->data, static_cast<std::size_t>(message_->size)}; }
    std::string_view text() const noexcept {
        return {reinterpret_cast<const char *>(message_->data), static_cast<std::size_t>(message_->size)};
    }
    std::string_view from() const noexcept { return message_->from; }
    std::string_view channel() const noexcept { return message_->channel; }
    std::string_view protocol() const noexcept { return message_->protocol; }
    std::uint64_t gap() const noexcept { return message_->gap; }
    // The sender's number of the message; 0 when the protocol has none.
    std::uint64_t number() const noexcept { return message_->id; }

    // What a pool set found out (peerbus_pools.hpp): a valid token, whose node_id, and whether the inspector speaks.
    bool verified() const noexcept { return (message_->flags & PEERBUS_VERIFIED) != 0; }
    bool inspector() const noexcept { return (message_->flags & PEERBUS_INSPECTOR) != 0; }
    std::string_view node_id() const noexcept { return message_->node_id == nullptr ? "" : message_->node_id; }

    // Its sender keeps it until Node::confirm; an earlier process may have received it, too.
    bool durable() const noexcept { return (message_->flags & PEERBUS_DURABLE) != 0; }
    bool redelivered() const noexcept { return (message_->flags & PEERBUS_REDELIVERED) != 0; }

    const peerbus_message &raw() const noexcept { return *message_; }

private:
    const peerbus_message *message_;
};

// Batch owns the memory of the messages that one receive took. It may outlive its node and die on any thread.
class Batch {
public:
    class Iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Message;
        using difference_type = std::ptrdiff_t;
        using pointer = void;
        using reference = Message;

        explicit Iterator(const peerbus_message *at) noexcept : at_(at) {}
        Message operator*() const noexcept { return Message(*at_); }
        Iterator &operator++() noexcept { return ++at_, *this; }
        Iterator operator++(int) noexcept { return Iterator(at_++); }
        bool operator==(const Iterator &other) const noexcept { return at_ == other.at_; }
        bool operator!=(const Iterator &other) const noexcept { return at_ != other.at_; }

    private:
        const peerbus_message *at_;
    };

    Batch() noexcept = default;
    explicit Batch(peerbus_batch *owned) noexcept : batch_(owned) {}
    Batch(Batch &&other) noexcept : batch_(std::exchange(other.batch_, nullptr)) {}
    Batch &operator=(Batch &&other) noexcept {
        if (this != &other) {
            peerbus_batch_free(batch_);
            batch_ = std::exchange(other.batch_, nullptr);
        }
        return *this;
    }
    ~Batch() { peerbus_batch_free(batch_); }

    std::size_t size() const noexcept { return batch_ ? static_cast<std::size_t>(batch_->count) : 0; }
    bool empty() const noexcept { return size() == 0; }
    Message operator[](std::size_t index) const noexcept { return Message(batch_->messages[index]); }
    Iterator begin() const noexcept { return Iterator(batch_ ? batch_->messages : nullptr); }
    Iterator end() const noexcept { return Iterator(batch_ ? batch_->messages + batch_->count : nullptr); }

private:
    peerbus_batch *batch_ = nullptr;
};

// ---- Channels ----

inline std::string direct_channel(std::string_view owner, std::string_view target, std::string_view suffix) {
    return std::string(owner).append("::dm:").append(target).append("-").append(suffix);
}

inline std::string topic_channel(std::string_view owner, std::string_view name) {
    return std::string(owner).append("::ps:").append(name);
}

// Channel is a handle of the sending side of a direct channel: message ids, and how far each message is. It closes the handle when
// it dies; messages that it took are still delivered. Get it from Node::channel. The node must not be moved, nor its slot used
// again, while the channel lives.
class Channel {
public:
    Channel(Channel &&other) noexcept
        : instance_(other.instance_), handle_(std::exchange(other.handle_, 0)), name_(std::move(other.name_)) {}
    Channel &operator=(Channel &&other) noexcept {
        if (this != &other) {
            close();
            instance_ = other.instance_;
            handle_ = std::exchange(other.handle_, 0);
            name_ = std::move(other.name_);
        }
        return *this;
    }
    ~Channel() { close(); }

    const std::string &name() const noexcept { return name_; }
    void close() noexcept {
        if (handle_ > 0) peerbus_channel_close(instance_, std::exchange(handle_, 0));
    }

    // How messages travel from now on: class, compression, progress, durable; see peerbus_channel_configure.
    Result<void> try_configure(std::string_view options) {
        const detail::Text text(options);
        if (auto failure = detail::cut(text)) return *failure;
        const int code = peerbus_channel_configure(instance_, handle_, text.c_str());
        if (code < 0) return Failure{static_cast<peerbus_code>(code), peerbus_last_error()};
        return {};
    }
    void configure(std::string_view options) { try_configure(options).value(); }

    // The id of the message, see peerbus_channel_send.
    Result<std::uint64_t> try_send(Bytes data, Milliseconds timeout) {
        std::uint64_t id = 0;
        const int code = peerbus_channel_send(instance_, handle_, data.data(), data.size(), detail::milliseconds(timeout), &id);
        if (code < 0) return Failure{static_cast<peerbus_code>(code), peerbus_last_error()};
        return id;
    }
    std::uint64_t send(Bytes data, Milliseconds timeout) { return try_send(data, timeout).value(); }

    struct Sent {
        std::uint64_t first; // id; the others follow
        std::size_t count;
    };
    // As many of the payloads, from the first on, as find room: see peerbus_channel_send_batch.
    Result<Sent> try_send_batch(const std::vector<Bytes> &payloads, Milliseconds timeout) {
        if (payloads.size() > PEERBUS_MAX_BATCH) return Failure{PEERBUS_INVALID_ARGUMENT, "more than PEERBUS_MAX_BATCH payloads"};
        std::vector<peerbus_slice> slices;
        slices.reserve(payloads.size());
        for (const Bytes &payload : payloads) slices.push_back({payload.data(), payload.size()});
        std::uint64_t first = 0;
        const int code = peerbus_channel_send_batch(
            instance_, handle_, slices.data(), static_cast<int>(slices.size()), detail::milliseconds(timeout), &first);
        if (code < 0) return Failure{static_cast<peerbus_code>(code), peerbus_last_error()};
        return Sent{first, static_cast<std::size_t>(code)};
    }
    Sent send_batch(const std::vector<Bytes> &payloads, Milliseconds timeout) { return try_send_batch(payloads, timeout).value(); }

    // Until the message has that state, see peerbus_channel_wait.
    Result<void> try_wait(std::uint64_t id, peerbus_delivery state, Milliseconds timeout) {
        const int code = peerbus_channel_wait(instance_, handle_, id, state, detail::milliseconds(timeout));
        if (code < 0) return Failure{static_cast<peerbus_code>(code), peerbus_last_error()};
        return {};
    }
    void wait(std::uint64_t id, peerbus_delivery state, Milliseconds timeout) { try_wait(id, state, timeout).value(); }

private:
    friend class Node;
    Channel(int instance, int handle, std::string name) : instance_(instance), handle_(handle), name_(std::move(name)) {}

    int instance_;
    int handle_; // 0: closed or moved from
    std::string name_;
};

// ---- Node ----

// Node owns the node in one slot and closes it when it dies. Its functions may be called from several threads at a time,
// except that nobody may move or destroy it meanwhile: call close() first, which ends calls that wait.
class Node {
public:
    using Operation = long long;

    // config: the JSON of CreateNode.
    static Result<Node> try_create(const Library &, int instance, std::string_view config) {
        const detail::Text text(config);
        if (auto failure = detail::cut(text)) return *failure;
        auto created = detail::answer(CreateNode(instance, text.c_str()));
        if (!created) return created.failure();
        Node node(instance);
        const auto list = detail::Json(created.value()).member("addresses").value_or("");
        for (const auto &entry : detail::Json(list).entries()) node.id_ = id_in(detail::Json(entry).text());
        return node;
    }
    Node(const Library &library, int instance, std::string_view config)
        : Node(try_create(library, instance, config).value()) {}

    Node(Node &&other) noexcept : instance_(other.instance_.exchange(none)), id_(std::move(other.id_)) {}
    Node &operator=(Node &&other) noexcept {
        if (this != &other) {
            release();
            instance_ = other.instance_.exchange(none);
            id_ = std::move(other.id_);
        }
        return *this;
    }
    ~Node() { release(); }

    // Up to 10 s. A second close, and closing a moved-from node, succeed. Later calls on this object answer CLOSED, also
    // when its slot got another node.
    Result<void> try_close() {
        const int instance = instance_.exchange(none);
        if (instance == none) return {};
        auto closed = detail::answer(CloseNode(instance));
        if (!closed) instance_ = instance;
        return detail::done(std::move(closed));
    }
    void close() { try_close().value(); }

    const std::string &id() const noexcept { return id_; }

    // Own addresses, or those known of a peer, each ending in /p2p/<id>.
    Result<std::vector<std::string>> try_addresses(std::string_view peer = "") const {
        const detail::Text text(peer);
        if (auto failure = detail::cut(text)) return *failure;
        auto list = answer(GetNodeAddresses(instance_, text.c_str()));
        if (!list) return list.failure();
        std::vector<std::string> all;
        for (const auto &entry : detail::Json(list.value()).entries()) all.push_back(detail::Json(entry).text());
        return all;
    }
    std::vector<std::string> addresses(std::string_view peer = "") const { return try_addresses(peer).value(); }

    Result<bool> try_is_public() const {
        auto verdict = answer(GetReachability(instance_));
        if (!verdict) return verdict.failure();
        return verdict.value() == "true";
    }
    bool is_public() const { return try_is_public().value(); }

    // JSON.
    Result<std::string> try_statistics() const { return answer(GetStatistics(instance_)); }
    std::string statistics() const { return try_statistics().value(); }

    // -- Peers --

    // Up to 30 s. Answer: {"ID":"...","Addrs":["address actually dialled"]}.
    Result<std::string> try_connect(const std::vector<std::string> &addresses) {
        const detail::Text text(detail::list_json(addresses));
        return answer(ConnectTo(instance_, text.c_str()));
    }
    std::string connect(const std::vector<std::string> &addresses) { return try_connect(addresses).value(); }

    Result<void> try_disconnect(std::string_view peer) { return with_text(DisconnectFrom, peer); }
    void disconnect(std::string_view peer) { try_disconnect(peer).value(); }

    // JSON list.
    Result<std::string> try_peers() const { return answer(GetConnectedPeers(instance_)); }
    std::string peers() const { return try_peers().value(); }

    // Up to 60 s. Answer: when the reservation ends, JSON text.
    Result<std::string> try_reserve_on_relay(std::string_view relay) {
        const detail::Text text(relay);
        if (auto failure = detail::cut(text)) return *failure;
        return answer(ReserveOnRelay(instance_, text.c_str()));
    }
    std::string reserve_on_relay(std::string_view relay) { return try_reserve_on_relay(relay).value(); }

    // JSON: how this node is reached, and what is in the way. Up to 2 s.
    Result<std::string> try_diagnose() const { return answer(Diagnose(instance_)); }
    std::string diagnose() const { return try_diagnose().value(); }

    // -- WebRTC --

    // Up to 60 s; start("InitiateWebRTCConnection", peer, timeout) takes another time. Answer: the connection with its path, JSON.
    Result<std::string> try_initiate_webrtc(std::string_view peer) {
        const detail::Text text(peer);
        if (auto failure = detail::cut(text)) return *failure;
        return answer(InitiateWebRTCConnection(instance_, text.c_str()));
    }
    std::string initiate_webrtc(std::string_view peer) { return try_initiate_webrtc(peer).value(); }

    // Messages on their way get up to 1 s. None open: success.
    Result<void> try_close_webrtc(std::string_view peer) { return with_text(CloseWebRTCConnection, peer); }
    void close_webrtc(std::string_view peer) { try_close_webrtc(peer).value(); }

    // JSON list.
    Result<std::string> try_webrtc_connections() const { return answer(GetWebRTCConnections(instance_)); }
    std::string webrtc_connections() const { return try_webrtc_connections().value(); }

    // servers: the JSON of UpdateICEConfig, for later WebRTC connections; what it does not name stays.
    Result<void> try_set_ice_config(std::string_view servers) { return with_text(UpdateICEConfig, servers); }
    void set_ice_config(std::string_view servers) { try_set_ice_config(servers).value(); }

    // -- Messages --

    // Into the outbound queue, see peerbus_send.
    Result<void> try_send(std::string_view channel, Bytes data, Milliseconds timeout) {
        const detail::Text text(channel);
        if (auto failure = detail::cut(text)) return *failure;
        return check(peerbus_send(instance_, text.c_str(), data.data(), data.size(), detail::milliseconds(timeout)));
    }
    void send(std::string_view channel, Bytes data, Milliseconds timeout) { try_send(channel, data, timeout).value(); }

    // A handle of a direct channel; events: the sum of 1 << peerbus_delivery that shall be events.
    Result<Channel> try_channel(std::string_view channel, int events = 0) {
        const detail::Text text(channel);
        if (auto failure = detail::cut(text)) return *failure;
        const int handle = peerbus_channel_open(instance_, text.c_str(), events);
        if (handle < 0) return Failure{static_cast<peerbus_code>(handle), peerbus_last_error()};
        return Channel(instance_, handle, std::string(channel));
    }
    Channel channel(std::string_view channel, int events = 0) { return try_channel(channel, events).value(); }

    // JSON of GetChannelInfo.
    Result<std::string> try_channel_info(std::string_view channel) const {
        const detail::Text text(channel);
        if (auto failure = detail::cut(text)) return *failure;
        return answer(GetChannelInfo(instance_, text.c_str()));
    }
    std::string channel_info(std::string_view channel) const { return try_channel_info(channel).value(); }

    Result<void> try_flush(std::string_view channel, Milliseconds timeout) {
        const detail::Text text(channel);
        if (auto failure = detail::cut(text)) return *failure;
        return check(peerbus_flush(instance_, text.c_str(), detail::milliseconds(timeout)));
    }
    void flush(std::string_view channel, Milliseconds timeout) { try_flush(channel, timeout).value(); }

    // Send and wait until the transport took it, up to 30 s, see SendMessageToPeer.
    Result<void> try_send_now(std::string_view channel, Bytes data) {
        const detail::Text text(channel);
        if (auto failure = detail::cut(text)) return *failure;
        if (data.size() > INT_MAX) return Failure{PEERBUS_TOO_LARGE, "the message has more than 2147483647 bytes"};
        return detail::done(answer(SendMessageToPeer(
            instance_, text.c_str(), reinterpret_cast<const char *>(data.data()), static_cast<int>(data.size()))));
    }
    void send_now(std::string_view channel, Bytes data) { try_send_now(channel, data).value(); }

    struct ReceiveLimits {
        int max_messages = 1024;
        std::size_t max_bytes = 0; // 0: no bound
    };

    // From all channels in turn. An empty Batch: none came in time.
    Result<Batch> try_receive(Milliseconds timeout, ReceiveLimits limits) {
        return take(nullptr, timeout, limits);
    }
    Result<Batch> try_receive(Milliseconds timeout) { return try_receive(timeout, ReceiveLimits()); }
    Batch receive(Milliseconds timeout, ReceiveLimits limits) { return try_receive(timeout, limits).value(); }
    Batch receive(Milliseconds timeout) { return try_receive(timeout).value(); }

    Result<Batch> try_receive_from(std::string_view channel, Milliseconds timeout, ReceiveLimits limits) {
        const detail::Text text(channel);
        if (auto failure = detail::cut(text)) return *failure;
        return take(text.c_str(), timeout, limits);
    }
    Result<Batch> try_receive_from(std::string_view channel, Milliseconds timeout) {
        return try_receive_from(channel, timeout, ReceiveLimits());
    }
    Batch receive_from(std::string_view channel, Milliseconds timeout, ReceiveLimits limits) {
        return try_receive_from(channel, timeout, limits).value();
    }
    Batch receive_from(std::string_view channel, Milliseconds timeout) {
        return try_receive_from(channel, timeout).value();
    }

    // The program is done with messages of durable channels: see peerbus_confirm. How many of them are.
    Result<int> try_confirm(const Message &message) { return confirmed(&message.raw(), 1); }
    int confirm(const Message &message) { return try_confirm(message).value(); }
    Result<int> try_confirm(const Batch &batch) {
        return batch.empty() ? Result<int>(0) : confirmed(&batch[0].raw(), static_cast<int>(batch.size()));
    }
    int confirm(const Batch &batch) { return try_confirm(batch).value(); }

    // Messages that wait. MessageQueueLength has no code; a closed or failed node shows in the next other call.
    int waiting() const noexcept { return MessageQueueLength(instance_); }

    /// Waits until a message waits on any channel, and takes nothing. False at the timeout.
    bool wait(Milliseconds timeout) { return try_wait(timeout).value(); }
    Result<bool> try_wait(Milliseconds timeout) {
        const int count = peerbus_wait(instance_, nullptr, detail::milliseconds(timeout));
        if (count < 0) return failed(count);
        return count > 0;
    }

    Result<void> try_interrupt() { return check(peerbus_interrupt(instance_)); }
    void interrupt() { try_interrupt().value(); }

    Result<void> try_set_policy(std::string_view channel, peerbus_policy policy) {
        const detail::Text text(channel);
        if (auto failure = detail::cut(text)) return *failure;
        return check(peerbus_set_policy(instance_, text.c_str(), policy));
    }
    void set_policy(std::string_view channel, peerbus_policy policy) { try_set_policy(channel, policy).value(); }

    // A descriptor for poll, select and epoll that the library owns.
    Result<int> try_wake_descriptor(peerbus_wake what) const {
        return count(peerbus_wake_descriptor(instance_, what));
    }
    int wake_descriptor(peerbus_wake what) const { return try_wake_descriptor(what).value(); }

    // -- Topics --

    Result<void> try_subscribe(std::string_view channel) { return with_text(SubscribeToTopic, channel); }
    void subscribe(std::string_view channel) { try_subscribe(channel).value(); }

    Result<void> try_unsubscribe(std::string_view channel) { return with_text(UnsubscribeFromTopic, channel); }
    void unsubscribe(std::string_view channel) { try_unsubscribe(channel).value(); }

    // Answer: the subscribers that were connected.
    Result<int> try_publish(std::string_view channel, Bytes data, Milliseconds timeout) {
        const detail::Text text(channel);
        if (auto failure = detail::cut(text)) return *failure;
        return count(
            peerbus_publish(instance_, text.c_str(), data.data(), data.size(), detail::milliseconds(timeout)));
    }
    int publish(std::string_view channel, Bytes data, Milliseconds timeout) {
        return try_publish(channel, data, timeout).value();
    }

    // In order. Answer: those that were published; fewer than given when the rest found no room or failed.
    Result<std::vector<peerbus_publication>> try_publish_batch(
        std::string_view channel, const std::vector<Bytes> &messages, Milliseconds timeout) {
        const detail::Text text(channel);
        if (auto failure = detail::cut(text)) return *failure;
        std::vector<peerbus_slice> payloads;
        for (const auto &message : messages) payloads.push_back({message.data(), message.size()});
        std::vector<peerbus_publication> published(messages.size());
        const int count = peerbus_publish_batch(instance_, text.c_str(), payloads.data(), static_cast<int>(payloads.size()),
                                                detail::milliseconds(timeout), published.data());
        if (count < 0) return failed(count);
        published.resize(static_cast<std::size_t>(count));
        return published;
    }
    std::vector<peerbus_publication> publish_batch(
        std::string_view channel, const std::vector<Bytes> &messages, Milliseconds timeout) {
        return try_publish_batch(channel, messages, timeout).value();
    }

    // Chooses how this node takes part in a topic: see OpenTopic of peerbus.h, also for the options.
    Result<void> try_open_topic(std::string_view channel, std::string_view options) {
        const detail::Text name(channel), text(options);
        if (auto failure = detail::cut(name, text)) return *failure;
        return detail::done(answer(OpenTopic(instance_, name.c_str(), text.c_str())));
    }
    void open_topic(std::string_view channel, std::string_view options) { try_open_topic(channel, options).value(); }

    // JSON object: see GetTopicInfo of peerbus.h.
    Result<std::string> try_topic_info(std::string_view channel) const {
        const detail::Text text(channel);
        if (auto failure = detail::cut(text)) return *failure;
        return answer(GetTopicInfo(instance_, text.c_str()));
    }
    std::string topic_info(std::string_view channel) const { return try_topic_info(channel).value(); }

    // Waits until at least count connected peers subscribe to the topic.
    Result<void> try_wait_for_topic_peers(std::string_view channel, int count, Milliseconds timeout) {
        const detail::Text text(channel);
        if (auto failure = detail::cut(text)) return *failure;
        return detail::done(answer(WaitForTopicPeers(instance_, text.c_str(), count, detail::milliseconds(timeout))));
    }
    void wait_for_topic_peers(std::string_view channel, int count, Milliseconds timeout) {
        try_wait_for_topic_peers(channel, count, timeout).value();
    }

    // rules: a JSON object, or "null" for none.
    Result<void> try_set_topic_rules(std::string_view channel, std::string_view rules) {
        const detail::Text name(channel), text(rules);
        if (auto failure = detail::cut(name, text)) return *failure;
        return detail::done(answer(SetTopicRules(instance_, name.c_str(), text.c_str())));
    }
    void set_topic_rules(std::string_view channel, std::string_view rules) { try_set_topic_rules(channel, rules).value(); }

    // JSON list of peer ids.
    Result<std::string> try_topic_peers() const { return answer(GetTopicPeers(instance_)); }
    std::string topic_peers() const { return try_topic_peers().value(); }

    // JSON object; "" before the first snapshot.
    Result<std::string> try_rendezvous_peers() const { return answer(GetRendezvousPeers(instance_)); }
    std::string rendezvous_peers() const { return try_rendezvous_peers().value(); }

    // -- Events and operations --

    // JSON list; "" when none came in time.
    Result<std::string> try_events(Milliseconds timeout, int max_events = 256) {
        return answer(PopEvents(instance_, max_events, detail::milliseconds(timeout)));
    }
    std::string events(Milliseconds timeout, int max_events = 256) { return try_events(timeout, max_events).value(); }

    Result<Operation> try_start(std::string_view function, std::string_view argument, Milliseconds timeout) {
        const detail::Text name(function), text(argument);
        if (auto failure = detail::cut(name, text)) return *failure;
        auto started = answer(
            StartOperation(instance_, name.c_str(), text.c_str(), detail::milliseconds(timeout)));
        if (!started) return started.failure();
        const std::string number(detail::Json(started.value()).member("operation").value_or("0"));
        return std::strtoll(number.c_str(), nullptr, 10);
    }
    Operation start(std::string_view function, std::string_view argument, Milliseconds timeout) {
        return try_start(function, argument, timeout).value();
    }

    Result<void> try_cancel(Operation operation) {
        return detail::done(answer(CancelOperation(instance_, operation)));
    }
    void cancel(Operation operation) { try_cancel(operation).value(); }

private:
    // A slot that no library has (-1 would mean every node): this object holds no node.
    static constexpr int none = INT_MIN;

    explicit Node(int instance) noexcept : instance_(instance) {}

    void release() noexcept {
        const int instance = instance_.exchange(none);
        if (instance != none) FreeString(CloseNode(instance));
    }

    Failure own(Failure failure) const {
        if (instance_ != none) return failure;
        return {PEERBUS_CLOSED, "this peerbus::Node was closed or moved from"};
    }
    Failure failed(int code) const { return own({static_cast<peerbus_code>(code), peerbus_last_error()}); }

    Result<void> check(int code) const { return code < 0 ? Result<void>(failed(code)) : Result<void>(); }
    Result<int> count(int code) const { return code < 0 ? Result<int>(failed(code)) : Result<int>(code); }
    Result<std::string> answer(char *envelope) const {
        auto answered = detail::answer(envelope);
        return answered ? std::move(answered) : own(answered.failure());
    }

    static std::string id_in(const std::string &address) {
        const std::size_t at = address.rfind("/p2p/");
        return at == std::string::npos ? std::string() : address.substr(at + 5);
    }

    Result<void> with_text(char *(*function)(int, const char *), std::string_view argument) {
        const detail::Text text(argument);
        if (auto failure = detail::cut(text)) return *failure;
        return detail::done(answer(function(instance_, text.c_str())));
    }

    Result<int> confirmed(const peerbus_message *messages, int count) {
        const int code = peerbus_confirm(instance_, messages, count);
        if (code < 0) return failed(code);
        return code;
    }

    Result<Batch> take(const char *channel, Milliseconds timeout, ReceiveLimits limits) {
        peerbus_batch *batch = nullptr;
        const int count = peerbus_receive(instance_, channel, limits.max_messages, limits.max_bytes,
                                          detail::milliseconds(timeout), &batch);
        if (count < 0) return failed(count);
        return Batch(batch);
    }

    std::atomic<int> instance_{none};
    std::string id_;
};

} // namespace PEERBUS_CPP_ABI
} // namespace peerbus

#undef PEERBUS_CPP_ABI
#endif
