// Clients that share memory with a real daemon: what they write and read in place is what anybody
// else gets by streams, no byte is copied by the daemon, what a section resolved stays readable
// whatever the daemon does meanwhile, its death included, and a copy that was changed after its
// commit is never given out.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/client_blocks.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/status_matchers.h"

namespace kvtier::test_support {
namespace {

using ::testing::HasSubstr;
using enum absl::StatusCode;

bool Holds(const BlockView& view, const Key& key, uint32_t plane) {
  const std::vector<std::byte> bytes = BlockBytes(key, plane, view.bytes);
  return view.data != nullptr && std::memcmp(view.data, bytes.data(), bytes.size()) == 0;
}

class InPlaceTest : public ClientTest {
 protected:
  ClientOptions Shared(const std::string& name = "test") const {
    ClientOptions options = Options(name);
    options.transport = Transport::kSharedMemory;
    return options;
  }
  void StartShared(const std::string& config = SmallConfig()) {
    StartDaemon(config);
    ASSERT_NE(daemon_, nullptr);
    client_ = Connect(Shared());
    ASSERT_NE(client_, nullptr);
    ASSERT_OK_AND_ASSIGN(model_, client_->RegisterModel(UnequalModel()));
  }

  // Reserves, writes the buffers and commits chunk by chunk.
  absl::Status WriteInPlace(Client& client, const Model& model, absl::Span<const Key> keys) {
    auto reservation =
        client.Reserve({.model = model, .chunk_count = static_cast<uint32_t>(keys.size())});
    if (!reservation.ok()) return reservation.status();
    CommitRequest commit{.model = model, .reservation = *reservation};
    for (uint32_t chunk = 0; chunk < keys.size(); ++chunk) {
      auto buffers = client.Buffers(*reservation, chunk);
      if (!buffers.ok()) return buffers.status();
      for (uint32_t plane = 0; plane < buffers->size(); ++plane) {
        const MutableBuffer& buffer = (*buffers)[plane];
        const std::vector<std::byte> bytes = BlockBytes(keys[chunk], plane, buffer.bytes);
        std::memcpy(buffer.data, bytes.data(), bytes.size());
        written_.push_back(buffer);
      }
      commit.chunks.push_back({.chunk = chunk, .key = keys[chunk], .token_count = 16});
    }
    return client.Commit(commit).status();
  }
  uint64_t Counter(const std::string& name) { return daemon().Status().counters().at(name); }

  std::vector<MutableBuffer> written_;
};

TEST_F(InPlaceTest, TransportIsChosenByWhatIsThere) {
  StartDaemon();
  const auto client = Connect();
  EXPECT_EQ(client->transport(), Transport::kSharedMemory);
  EXPECT_EQ(client->transport_note(), "");
  ClientOptions options = Options();
  options.transport = Transport::kStream;
  const auto streams = Connect(options);
  EXPECT_EQ(streams->transport(), Transport::kStream);
  EXPECT_THAT(streams->EnterSection().status(), StatusIs(kUnavailable, HasSubstr("kStream")));
}

TEST_F(InPlaceTest, GoesOnByStreamsWhereNoneIsOffered) {
  StartDaemon(SmallConfig("listen: {shared_memory: false}\n"));
  const auto client = Connect();
  EXPECT_EQ(client->transport(), Transport::kStream);
  EXPECT_THAT(client->transport_note(), HasSubstr("listen.shared_memory"));
  EXPECT_THAT(client->EnterSection().status(),
              StatusIs(kUnavailable, HasSubstr("listen.shared_memory")));
  EXPECT_THAT(Client::Connect(Shared()).status(),
              StatusIs(kFailedPrecondition, HasSubstr("listen.shared_memory")));
}

TEST_F(InPlaceTest, WhatIsWrittenInPlaceIsReadInPlaceAndByStream) {
  StartShared();
  const std::vector<Key> keys = ChainKeys(model_, 1, 4);
  ASSERT_THAT(WriteInPlace(*client_, model_, keys), IsOk());
  ASSERT_OK_AND_ASSIGN(const Match match, client_->Lookup({.model = model_, .keys = keys}));
  ASSERT_EQ(match.chunks, 4u);
  {
    ASSERT_OK_AND_ASSIGN(ReadSection section, client_->EnterSection());
    std::vector<BlockId> blocks;
    for (uint32_t plane = 0; plane < 3; ++plane) {
      for (uint32_t chunk = 4; chunk-- > 0;) blocks.push_back({chunk, plane});
    }
    std::vector<BlockView> views(blocks.size());
    ASSERT_OK_AND_ASSIGN(const size_t found,
                         section.Resolve(match.lease, blocks, absl::MakeSpan(views)));
    EXPECT_EQ(found, blocks.size());
    for (size_t i = 0; i < blocks.size(); ++i) {
      EXPECT_TRUE(Holds(views[i], keys[blocks[i].chunk], blocks[i].plane)) << i;
      EXPECT_THAT(views[i].pool, ::testing::AnyOf("hbm:0", "dram:0"));
    }
    std::vector<BlockView> row(3);
    ASSERT_OK_AND_ASSIGN(const size_t planes,
                         section.ResolveChunk(match.lease, 2, absl::MakeSpan(row)));
    EXPECT_EQ(planes, 3u);
    for (uint32_t plane = 0; plane < 3; ++plane) EXPECT_TRUE(Holds(row[plane], keys[2], plane));
    // By key: of the chunks that are there two planes, and nothing of one that is not.
    std::vector<Key> asked = {keys[3], ChainKeys(model_, 9, 1)[0], keys[0]};
    std::vector<BlockView> by_key(6);
    ASSERT_OK_AND_ASSIGN(const size_t hits,
                         section.ResolveKeys(model_, asked, {{2, 0}}, absl::MakeSpan(by_key)));
    EXPECT_EQ(hits, 4u);
    EXPECT_TRUE(Holds(by_key[0], keys[3], 2));
    EXPECT_EQ(by_key[2].code, kNotFound);
    EXPECT_TRUE(Holds(by_key[5], keys[0], 0));
  }
  EXPECT_THAT(client_->Release(match.lease), IsOk());
  // Another client reads the writer's inbox, and a third one what the daemon sends of it.
  const auto reader = Connect(Shared("reader"));
  ASSERT_OK_AND_ASSIGN(const Model theirs, reader->RegisterModel(UnequalModel()));
  ASSERT_OK_AND_ASSIGN(const uint32_t shared, ReadChunks(*reader, theirs, keys));
  EXPECT_EQ(shared, 4u);
  ClientOptions options = Options();
  options.transport = Transport::kStream;
  const auto streams = Connect(options);
  ASSERT_OK_AND_ASSIGN(const Model streamed, streams->RegisterModel(UnequalModel()));
  ASSERT_OK_AND_ASSIGN(const uint32_t by_stream, ReadChunks(*streams, streamed, keys));
  EXPECT_EQ(by_stream, 4u);
}

TEST_F(InPlaceTest, PutAndGetNeedNoCopyOfTheDaemon) {
  StartShared();
  const std::vector<Key> keys = ChainKeys(model_, 2, 6, 5);
  const uint64_t verified = Counter("verified_bytes");
  ASSERT_THAT(StoreChunks(*client_, model_, {.keys = keys, .count = 6, .tail_tokens = 5}), IsOk());
  ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunks(*client_, model_, keys));
  EXPECT_EQ(read, 6u);
  // Nothing was hashed when it was committed, and nothing was read for a stream.
  EXPECT_EQ(Counter("verified_bytes"), verified);
}

TEST_F(InPlaceTest, SectionsHaveLimitsAndEnds) {
  StartShared();
  std::vector<ReadSection> sections;
  for (int i = 0; i < 256; ++i) {
    ASSERT_OK_AND_ASSIGN(ReadSection section, client_->EnterSection());
    sections.push_back(std::move(section));
  }
  EXPECT_THAT(client_->EnterSection().status(), StatusIs(kResourceExhausted, HasSubstr("256")));
  std::atomic<uint64_t>* const word = sections.back().timeline_word(7);
  EXPECT_THAT(sections.back().EndAt(256, 1), StatusIs(kInvalidArgument));
  EXPECT_THAT(sections.back().EndAt(7, 5), IsOk());
  EXPECT_FALSE(sections.back().open());
  std::vector<BlockView> none;
  EXPECT_THAT(sections.back().Resolve(1, {}, absl::MakeSpan(none)).status(),
              StatusIs(kFailedPrecondition));
  word->store(4);
  EXPECT_THAT(client_->EnterSection().status(), StatusIs(kResourceExhausted));
  word->store(5);
  EXPECT_THAT(client_->EnterSection().status(), IsOk());
  sections.clear();
}

TEST_F(InPlaceTest, ResolvedBlocksOutliveTheDaemon) {
  StartShared();
  const std::vector<Key> keys = ChainKeys(model_, 3, 2);
  ASSERT_THAT(WriteInPlace(*client_, model_, keys), IsOk());
  ASSERT_OK_AND_ASSIGN(const Match match, client_->Lookup({.model = model_, .keys = keys}));
  ASSERT_OK_AND_ASSIGN(const ReservationHandle reservation,
                       client_->Reserve({.model = model_, .parent = keys[1]}));
  ASSERT_OK_AND_ASSIGN(const auto buffers, client_->Buffers(reservation, 0));
  const uint64_t epoch = client_->daemon_epoch();
  {
    ASSERT_OK_AND_ASSIGN(ReadSection section, client_->EnterSection());
    std::vector<BlockView> row(3);
    ASSERT_OK_AND_ASSIGN(const size_t planes,
                         section.ResolveChunk(match.lease, 1, absl::MakeSpan(row)));
    ASSERT_EQ(planes, 3u);
    daemon().Kill();
    ASSERT_TRUE(Await([&] { return !client_->attached(); }));
    EXPECT_THAT(client_->EnterSection().status(), StatusIs(kUnavailable));
    EXPECT_THAT(section.ResolveChunk(match.lease, 1, absl::MakeSpan(row)).status(),
                StatusIs(kUnavailable));
    StartDaemon();
    ASSERT_THAT(client_->WaitAttached(kSoon), IsOk());
    EXPECT_NE(client_->daemon_epoch(), epoch);
    // Old and new memory beside each other.
    ASSERT_OK_AND_ASSIGN(ReadSection fresh, client_->EnterSection());
    for (uint32_t plane = 0; plane < 3; ++plane) EXPECT_TRUE(Holds(row[plane], keys[1], plane));
    // Who was writing writes on, and learns of it at the commit.
    for (const MutableBuffer& buffer : buffers) std::memset(buffer.data, 1, buffer.bytes);
    EXPECT_THAT(client_
                    ->Commit({.model = model_,
                              .reservation = reservation,
                              .chunks = {{.chunk = 0, .key = keys[0], .token_count = 16}}})
                    .status(),
                StatusIs(kNotFound));
    EXPECT_THAT(section.ResolveChunk(match.lease, 1, absl::MakeSpan(row)).status(),
                StatusIs(kNotFound));
  }
  const std::vector<Key> again = ChainKeys(model_, 3, 2);
  ASSERT_THAT(WriteInPlace(*client_, model_, again), IsOk());
  ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunks(*client_, model_, again));
  EXPECT_EQ(read, 2u);
}

TEST_F(InPlaceTest, CopiesThatTheirWriterChangedAreNotGivenOut) {
  StartShared();
  const std::vector<Key> keys = ChainKeys(model_, 4, 2);
  ASSERT_THAT(WriteInPlace(*client_, model_, keys), IsOk());
  const auto reader = Connect(Shared("reader"));
  ASSERT_OK_AND_ASSIGN(const Model theirs, reader->RegisterModel(UnequalModel()));
  ASSERT_OK_AND_ASSIGN(const Match match, reader->Lookup({.model = theirs, .keys = keys}));
  static_cast<char*>(written_[4].data)[100] ^= 1;  // chunk 1, plane 1
  std::vector<BlockView> row(3);
  {
    ASSERT_OK_AND_ASSIGN(ReadSection section, reader->EnterSection());
    ASSERT_OK_AND_ASSIGN(const size_t planes,
                         section.ResolveChunk(match.lease, 1, absl::MakeSpan(row)));
    EXPECT_EQ(planes, 2u);
    EXPECT_EQ(row[1].code, kDataLoss);
    EXPECT_TRUE(Holds(row[0], keys[1], 0));
    EXPECT_TRUE(Holds(row[2], keys[1], 2));
  }
  EXPECT_EQ(Counter("corrupt_copies"), 1u);
  // Get verifies as well, whatever was verified before.
  static_cast<char*>(written_[0].data)[100] ^= 1;  // chunk 0, plane 0
  std::vector<std::byte> bytes(model_.geometry().planes[0].bytes_per_chunk);
  GetRequest get{.model = theirs, .lease = match.lease};
  get.blocks.push_back({.chunk = 0, .plane = 0, .pieces = {{bytes.data(), bytes.size()}}});
  ASSERT_OK_AND_ASSIGN(const GetResult got, reader->Get(get));
  EXPECT_THAT(got.blocks[0].status, StatusIs(kDataLoss));
  EXPECT_EQ(Counter("corrupt_copies"), 2u);
}

TEST_F(InPlaceTest, CommittedBlocksAreNotWrittenAnyMore) {
  StartShared();
  const std::vector<Key> keys = ChainKeys(model_, 5, 2);
  ASSERT_OK_AND_ASSIGN(const ReservationHandle reservation,
                       client_->Reserve({.model = model_, .chunk_count = 2}));
  const ChainPart part{.keys = keys, .count = 2};
  ASSERT_THAT(PutBlocks(*client_, model_, reservation, part, 0, 3), IsOk());
  ASSERT_THAT(CommitChunks(*client_, model_, reservation, part, 1), IsOk());
  EXPECT_THAT(PutBlocks(*client_, model_, reservation, part, 0, 1),
              StatusIs(kFailedPrecondition, HasSubstr("committed")));
  EXPECT_THAT(client_->Buffers(reservation, 0).status(), StatusIs(kFailedPrecondition));
  EXPECT_THAT(client_->Buffers(reservation, 2).status(), StatusIs(kInvalidArgument));
  // Neither put nor handed out.
  EXPECT_THAT(CommitChunks(*client_, model_, reservation, {.keys = keys, .first = 0, .count = 2}, 2)
                  .status(),
              StatusIs(kFailedPrecondition));
  EXPECT_THAT(client_->Abort(reservation), IsOk());
}

TEST_F(InPlaceTest, ClientsThatCloseAreGoneAlthoughTheirProcessLives) {
  constexpr int kClients = 8 + 50;
  StartShared(SmallConfig("limits: {sessions_max: 8}\n"));
  const std::vector<Key> keys = ChainKeys(model_, 7, 2);
  ASSERT_THAT(WriteInPlace(*client_, model_, keys), IsOk());
  for (int i = 0; i < kClients; ++i) {
    // Where memory is refused this is an error.
    const auto client = Connect(Shared("one of many"));
    ASSERT_NE(client, nullptr) << i;
    ASSERT_OK_AND_ASSIGN(const Model model, client->RegisterModel(UnequalModel()));
    ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunks(*client, model, keys));
    EXPECT_EQ(read, 2u);
  }
}

TEST_F(InPlaceTest, AClientWithAnOpenSectionIsThereUntilItIsLeft) {
  StartShared(SmallConfig("listen: {http: '127.0.0.1:0'}\n"));
  const auto clients = [&] { return daemon().Metric("kvtier_shared_clients{tenant=\"default\"}"); };
  const std::vector<Key> keys = ChainKeys(model_, 8, 1);
  ASSERT_THAT(WriteInPlace(*client_, model_, keys), IsOk());
  ASSERT_OK_AND_ASSIGN(const Match match, client_->Lookup({.model = model_, .keys = keys}));
  ASSERT_OK_AND_ASSIGN(ReadSection section, client_->EnterSection());
  std::vector<BlockView> row(3);
  ASSERT_OK_AND_ASSIGN(const size_t found,
                       section.ResolveChunk(match.lease, 0, absl::MakeSpan(row)));
  ASSERT_EQ(found, 3u);
  client_ = nullptr;
  // Another one comes and goes after it: so the daemon has seen whatever the first one said.
  ASSERT_NE(Connect(Shared("second")), nullptr);
  EXPECT_TRUE(Await([&] { return clients() == 1; }));
  for (uint32_t plane = 0; plane < 3; ++plane) EXPECT_TRUE(Holds(row[plane], keys[0], plane));
  EXPECT_EQ(clients(), 1);
  section.Leave();
  ASSERT_NE(Connect(Shared("third")), nullptr);
  EXPECT_TRUE(Await([&] { return clients() == 0; }));
}

// Lines of /proc/self/maps that name memory of a daemon.
size_t SharedMappings() {
  std::ifstream maps("/proc/self/maps");
  size_t count = 0;
  for (std::string line; std::getline(maps, line);) {
    if (absl::StrContains(line, "memfd:kvtier")) ++count;
  }
  return count;
}

TEST_F(InPlaceTest, ChildrenHaveNoneOfTheMemory) {
  StartShared();
  const std::vector<Key> keys = ChainKeys(model_, 6, 1);
  ASSERT_THAT(WriteInPlace(*client_, model_, keys), IsOk());
  ASSERT_GE(SharedMappings(), 3u);  // index, client page, inbox
  const pid_t child = ::fork();
  if (child == 0) ::_exit(static_cast<int>(SharedMappings()));
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0) << "mappings in the child";
  ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunks(*client_, model_, keys));
  EXPECT_EQ(read, 1u);
}

}  // namespace
}  // namespace kvtier::test_support
