// Blocks that a raw client of shared memory writes in place and finds in its index.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "proto/wire/shared_index.h"
#include "tests/support/raw_shared_client.h"

namespace kvtier::test_support {

// A mapping of a descriptor; gone with the object.
class RawMapping {
 public:
  RawMapping() = default;
  RawMapping(int fd, uint64_t bytes, bool writable)
      : memory_(MapWhole(fd, bytes, writable)), bytes_(bytes) {}
  ~RawMapping() {
    if (memory_ != nullptr) munmap(memory_, bytes_);
  }
  RawMapping(const RawMapping&) = delete;
  RawMapping& operator=(const RawMapping&) = delete;

  std::byte* get() const { return memory_; }

 private:
  std::byte* memory_ = nullptr;
  uint64_t bytes_ = 0;
};

// A session with a channel that attached, its index and its page.
struct RawClient {
  std::unique_ptr<RawSession> session;
  RawChannel channel;
  std::unique_ptr<RawMapping> index, page;

  static std::unique_ptr<RawClient> Attach(const std::string& socket, pid_t pid) {
    auto client = std::make_unique<RawClient>();
    client->session = RawSession::Attach(socket, pid);
    if (client->session == nullptr) return nullptr;
    RawChannel& channel = client->channel;
    EXPECT_TRUE(channel.Connect(client->session->attach_socket()));
    EXPECT_EQ(channel.Hello(client->session->id(), client->session->daemon_epoch()), 0u)
        << channel.text;
    client->index = std::make_unique<RawMapping>(channel.index_fd(), channel.index_bytes(), false);
    client->page = std::make_unique<RawMapping>(channel.page_fd(), wire::kClientPageBytes, true);
    if (client->index->get() == nullptr || client->page->get() == nullptr) return nullptr;
    return client;
  }

  // Its mappings stay: it need not tell the truth.
  void SayGoodbye() const {
    const wire::Goodbye goodbye;
    EXPECT_TRUE(channel.Send(&goodbye, sizeof goodbye));
  }

  const wire::IndexHeader& header() const {
    return *reinterpret_cast<const wire::IndexHeader*>(index->get());
  }
  wire::ClientPage& client_page() const {
    return *reinterpret_cast<wire::ClientPage*>(page->get());
  }
  // Where the one plane of a row is.
  wire::ResidencyWord WordOf(uint64_t row) const {
    const auto* header_of_row = reinterpret_cast<const wire::RowHeader*>(
        index->get() + header().rows_offset + (row & 0xffffffff) * wire::kLineBytes);
    return wire::ResidencyWord(
        wire::PlaneOf(header_of_row, 1, 0).best.load(std::memory_order_acquire));
  }
};

// One block in an inbox of its own client, committed; the client can still write to it.
struct BlockInPlace {
  wire::ResidencyWord word;
  std::unique_ptr<RawMapping> segment;
  std::byte* block = nullptr;

  static std::unique_ptr<BlockInPlace> Write(RawClient& client, const std::string& name,
                                             const std::string& bytes) {
    auto written = std::make_unique<BlockInPlace>();
    v1::ReserveReply reserved;
    const grpc::Status status = client.session->Reserve(1, true, reserved);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(reserved.words_size(), 1);
    if (reserved.words_size() != 1) return nullptr;
    written->word = wire::ResidencyWord(reserved.words(0));
    RawChannel& channel = client.channel;
    EXPECT_EQ(channel.Segment(written->word, wire::SegmentAccess::kWrite), 0u) << channel.text;
    written->segment =
        std::make_unique<RawMapping>(channel.segment_fd(), channel.segment().segment_bytes, true);
    if (written->segment->get() == nullptr) return nullptr;
    EXPECT_EQ(channel.Mapped(written->word), 0u);
    written->block = written->segment->get() + written->word.slot() * channel.segment().slot_bytes;
    std::copy_n(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size(), written->block);
    const v1::CommitReply::Chunk committed =
        client.session->Commit(reserved.reservation_id(), 0, name, bytes);
    EXPECT_EQ(committed.outcome(), v1::CommitReply::COMMITTED) << committed.error();
    return written;
  }
};

}  // namespace kvtier::test_support
