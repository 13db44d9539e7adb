// A client library and a real daemon, by streams and in shared memory: what is stored comes back,
// byte for byte, and lookups answer by the kinds of planes. Bytes follow from the chunk's key and
// the plane, so a block that was mixed up with another is noticed.
#include <poll.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "tests/support/client_blocks.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/status_matchers.h"

namespace kvtier::test_support {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using enum absl::StatusCode;

class RoundTripTest : public ClientTest, public ::testing::WithParamInterface<Transport> {
 protected:
  void SetUp() override {
    StartDaemon();
    client_ = Connect(TransportOptions());
    ASSERT_NE(client_, nullptr);
    ASSERT_EQ(client_->transport(), GetParam());
    ASSERT_OK_AND_ASSIGN(model_, client_->RegisterModel(UnequalModel()));
  }
  ClientOptions TransportOptions(const std::string& name = "test") const {
    ClientOptions options = Options(name);
    options.transport = GetParam();
    return options;
  }
  absl::StatusOr<uint32_t> Matched(const Model& model, const std::vector<Key>& keys) {
    const auto match = client_->Lookup({.model = model, .keys = keys, .lease = false});
    if (!match.ok()) return match.status();
    return match->chunks;
  }
};

// Memory of a caller: blocks are gathered into pieces that lie apart in it, and what lies between
// must stay as it was.
class Scattered {
 public:
  Scattered() : memory_(1 << 20, kUntouched) {}

  BlockDestination Place(uint32_t chunk, uint32_t plane, size_t bytes) {
    const size_t cuts[] = {0, 1, bytes / 3, bytes / 2, bytes};
    BlockDestination destination{.chunk = chunk, .plane = plane};
    for (size_t piece = 0; piece < 4; ++piece) {
      const size_t size = cuts[piece + 1] - cuts[piece];
      destination.pieces.push_back({memory_.data() + next_, size});
      next_ += size + 29;
    }
    return destination;
  }
  // The block's bytes, wiped from the memory.
  static std::vector<std::byte> Take(const BlockDestination& block) {
    std::vector<std::byte> bytes;
    for (const MutableBuffer& piece : block.pieces) {
      auto* const begin = static_cast<std::byte*>(piece.data);
      bytes.insert(bytes.end(), begin, begin + piece.bytes);
      std::fill_n(begin, piece.bytes, kUntouched);
    }
    return bytes;
  }
  bool untouched() const {
    return std::all_of(memory_.begin(), memory_.end(), [](std::byte b) { return b == kUntouched; });
  }

 private:
  static constexpr std::byte kUntouched{0xa5};
  std::vector<std::byte> memory_;
  size_t next_ = 13;
};

TEST_P(RoundTripTest, ScattersAndGathersPlanesOfUnequalSize) {
  const std::vector<Key> keys = ChainKeys(model_, 1, 6);
  ASSERT_OK_AND_ASSIGN(const auto results,
                       StoreChunks(*client_, model_, {.keys = keys, .count = 6}));
  EXPECT_THAT(results, Each(CommitResult::kCommitted));
  ASSERT_OK_AND_ASSIGN(const Match match, client_->Lookup({.model = model_, .keys = keys}));
  ASSERT_EQ(match.chunks, 6u);
  EXPECT_GT(match.lease_ttl, absl::ZeroDuration());

  Scattered memory;
  GetRequest get{.model = model_, .lease = match.lease};
  for (uint32_t chunk = 6; chunk-- > 0;) {
    for (uint32_t plane = 0; plane < 3; ++plane) {
      get.blocks.push_back(
          memory.Place(chunk, plane, model_.geometry().planes[plane].bytes_per_chunk));
    }
  }
  ASSERT_OK_AND_ASSIGN(const GetResult got, client_->Get(get));
  EXPECT_TRUE(got.all_ok);
  uint64_t bytes_from_pools = 0;
  for (const auto& entry : got.bytes_by_pool) bytes_from_pools += entry.second;
  EXPECT_EQ(bytes_from_pools, 6u * (5'000 + 600 + 14'001));
  ASSERT_THAT(got.blocks, SizeIs(get.blocks.size()));
  for (size_t i = 0; i < get.blocks.size(); ++i) {
    const BlockDestination& block = get.blocks[i];
    EXPECT_THAT(got.blocks[i].status, IsOk());
    EXPECT_THAT(got.blocks[i].pool, ::testing::AnyOf("hbm:0", "dram:0"));
    const std::vector<std::byte> bytes = Scattered::Take(block);
    EXPECT_EQ(bytes, BlockBytes(keys[block.chunk], block.plane, bytes.size()))
        << "chunk " << block.chunk << " plane " << block.plane;
  }
  EXPECT_TRUE(memory.untouched()) << "bytes between the pieces were written";
  EXPECT_THAT(client_->Release(match.lease), IsOk());
}

TEST_P(RoundTripTest, PartialTailIsALeafOfItsOwn) {
  const std::vector<Key> keys = ChainKeys(model_, 2, 4, 5);
  ASSERT_THAT(StoreChunks(*client_, model_, {.keys = keys, .count = 4, .tail_tokens = 5}), IsOk());
  ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunks(*client_, model_, keys));
  EXPECT_EQ(read, 4u);
  // The same place with all its tokens is another chunk, and both may be there.
  const std::vector<Key> longer = ChainKeys(model_, 2, 4);
  ASSERT_OK_AND_ASSIGN(const uint32_t before, Matched(model_, longer));
  EXPECT_EQ(before, 3u);
  ASSERT_THAT(StoreChunks(*client_, model_, {.keys = longer, .first = 3, .count = 1}), IsOk());
  ASSERT_OK_AND_ASSIGN(const uint32_t after, ReadChunks(*client_, model_, longer));
  EXPECT_EQ(after, 4u);
  // Nothing can follow a partial chunk.
  EXPECT_THAT(client_->Reserve({.model = model_, .parent = keys.back()}),
              StatusIs(kFailedPrecondition, HasSubstr("5 of 16 tokens")));
}

TEST_P(RoundTripTest, SecondWriterIsToldThatItExists) {
  auto other = Connect(TransportOptions("other"));
  ASSERT_NE(other, nullptr);
  ASSERT_OK_AND_ASSIGN(const Model same, other->RegisterModel(UnequalModel()));
  const std::vector<Key> keys = ChainKeys(model_, 3, 2);
  ASSERT_EQ(keys, ChainKeys(same, 3, 2));
  // Both reserve and put before either commits.
  const ChainPart part{.keys = keys, .count = 2};
  ASSERT_OK_AND_ASSIGN(const auto mine, ReserveChunks(*client_, model_, part));
  ASSERT_OK_AND_ASSIGN(const auto theirs, ReserveChunks(*other, same, part));
  ASSERT_THAT(PutBlocks(*client_, model_, mine, part, 0, 6), IsOk());
  ASSERT_THAT(PutBlocks(*other, same, theirs, part, 0, 6), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto first, CommitChunks(*client_, model_, mine, part, 2));
  EXPECT_THAT(first, Each(CommitResult::kCommitted));
  const uint64_t used = daemon().UsedBytes();
  ASSERT_OK_AND_ASSIGN(const auto second, CommitChunks(*other, same, theirs, part, 2));
  EXPECT_THAT(second, Each(CommitResult::kAlreadyExists));
  EXPECT_EQ(daemon().Status().chunks(), 2u);
  EXPECT_EQ(daemon().Status().reservations(), 0u);
  EXPECT_TRUE(Await([&] { return daemon().UsedBytes() == used / 2; })) << "the loser's slots";
  ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunks(*other, same, keys));
  EXPECT_EQ(read, 2u);
}

TEST_P(RoundTripTest, ChunkIsVisibleOnceItsRequiredPlanesAreThere) {
  const std::vector<Key> keys = ChainKeys(model_, 4, 1);
  const ChainPart part{.keys = keys, .count = 1};
  ASSERT_OK_AND_ASSIGN(const auto reservation, ReserveChunks(*client_, model_, part));
  EXPECT_THAT(CommitChunks(*client_, model_, reservation, part, 1), StatusIs(kFailedPrecondition))
      << "nothing was put";
  ASSERT_THAT(PutBlocks(*client_, model_, reservation, part, 0, 3), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto some,
                       CommitChunks(*client_, model_, reservation, part, 1, {0, 2}));
  EXPECT_THAT(some, ElementsAre(CommitResult::kPartial));
  ASSERT_OK_AND_ASSIGN(const uint32_t hidden, Matched(model_, keys));
  EXPECT_EQ(hidden, 0u);
  ASSERT_OK_AND_ASSIGN(const auto rest, CommitChunks(*client_, model_, reservation, part, 1, {1}));
  EXPECT_THAT(rest, ElementsAre(CommitResult::kCommitted));
  ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunks(*client_, model_, keys));
  EXPECT_EQ(read, 1u);
}

TEST_P(RoundTripTest, ParentMustBeCommitted) {
  const std::vector<Key> keys = ChainKeys(model_, 5, 2);
  EXPECT_THAT(client_->Reserve({.model = model_, .parent = keys[0]}),
              StatusIs(kFailedPrecondition, HasSubstr(KeyHex(keys[0]))));
  // Within a reservation the order is the chain.
  const ChainPart part{.keys = keys, .count = 2};
  ASSERT_OK_AND_ASSIGN(const auto reservation, ReserveChunks(*client_, model_, part));
  ASSERT_THAT(PutBlocks(*client_, model_, reservation, part, 0, 6), IsOk());
  EXPECT_THAT(client_->Commit({.model = model_,
                               .reservation = reservation,
                               .chunks = {{.chunk = 1, .key = keys[1], .token_count = 16}}}),
              StatusIs(kFailedPrecondition, HasSubstr("chunk 0, is not committed")));
  EXPECT_THAT(client_->Abort(reservation), IsOk());
  EXPECT_TRUE(Await([&] { return daemon().UsedBytes() == 0; }));
  EXPECT_THAT(client_->Abort(reservation), StatusIs(kNotFound));
}

TEST_P(RoundTripTest, DoNotStoreKeepsChunksInTheWorker) {
  EXPECT_THAT(client_->Reserve({.model = model_, .hints = {.do_not_store = true}}),
              StatusIs(kFailedPrecondition, HasSubstr("do_not_store")));
}

// Attention is needed in every chunk, a window of 32 tokens in the last two, a state in the last,
// an index nowhere.
ModelGeometry KindsModel() {
  ModelGeometry model;
  model.name = "kinds";
  model.chunk_tokens = 16;
  model.planes.resize(4);
  model.planes[0] = {.name = "attention", .bytes_per_chunk = 512};
  model.planes[1] = {.name = "window",
                     .type = PlaneType::kWindow,
                     .bytes_per_chunk = 700,
                     .required = false,
                     .window_tokens = 32};
  model.planes[2] = {
      .name = "state", .type = PlaneType::kState, .bytes_per_chunk = 900, .required = false};
  model.planes[3] = {
      .name = "index", .type = PlaneType::kIndex, .bytes_per_chunk = 100, .required = false};
  return model;
}

TEST_P(RoundTripTest, LookupObeysPlaneKinds) {
  ASSERT_OK_AND_ASSIGN(const Model kinds, client_->RegisterModel(KindsModel()));
  const std::vector<Key> keys = ChainKeys(kinds, 6, 8);
  const std::vector<std::vector<uint32_t>> present = {{0, 1, 2}, {0, 1}, {0, 1}, {0, 1, 2},
                                                      {0},       {0, 2}, {0, 1}, {0, 1, 2}};
  for (size_t i = 0; i < keys.size(); ++i) {
    ASSERT_OK_AND_ASSIGN(
        const auto reservation,
        client_->Reserve(
            {.model = kinds, .parent = i == 0 ? Key{} : keys[i - 1], .planes = present[i]}));
    PutRequest put{.model = kinds, .reservation = reservation};
    std::vector<std::vector<std::byte>> contents;
    for (const uint32_t plane : present[i]) {
      contents.push_back(
          BlockBytes(keys[i], plane, kinds.geometry().planes[plane].bytes_per_chunk));
      put.blocks.push_back(
          {.plane = plane, .pieces = {{contents.back().data(), contents.back().size()}}});
    }
    ASSERT_THAT(client_->Put(put), IsOk());
    ASSERT_OK_AND_ASSIGN(const auto results,
                         client_->Commit({.model = kinds,
                                          .reservation = reservation,
                                          .chunks = {{.key = keys[i], .token_count = 16}}}));
    ASSERT_THAT(results, ElementsAre(CommitResult::kCommitted));
  }
  // By hand: one can go on after chunks 1, 4 and 8. After 2, 3 and 7 there is no state, after 5 no
  // window, after 6 the window has a hole.
  const std::vector<uint32_t> usable = {1, 1, 1, 4, 4, 4, 4, 8};
  for (size_t count = 1; count <= keys.size(); ++count) {
    ASSERT_OK_AND_ASSIGN(
        const uint32_t matched,
        Matched(kinds, {keys.begin(), keys.begin() + static_cast<ptrdiff_t>(count)}));
    EXPECT_EQ(matched, usable[count - 1]) << "of " << count << " chunks";
  }
  // A lease reads what is there; a plane that is not is NOT_FOUND and harms no other.
  ASSERT_OK_AND_ASSIGN(const Match match, client_->Lookup({.model = kinds, .keys = keys}));
  std::vector<std::byte> attention(512);
  std::vector<std::byte> window(700);
  ASSERT_OK_AND_ASSIGN(
      const GetResult got,
      client_->Get({.model = kinds,
                    .lease = match.lease,
                    .blocks = {{.chunk = 4, .plane = 0, .pieces = {{attention.data(), 512}}},
                               {.chunk = 4, .plane = 1, .pieces = {{window.data(), 700}}}}}));
  EXPECT_FALSE(got.all_ok);
  EXPECT_THAT(got.blocks[0].status, IsOk());
  EXPECT_EQ(attention, BlockBytes(keys[4], 0, 512));
  EXPECT_THAT(got.blocks[1].status, StatusIs(kNotFound));
}

TEST_P(RoundTripTest, TicketsCompleteThroughTheEventDescriptor) {
  constexpr size_t kChains = 12;
  std::vector<std::vector<Key>> chains;
  std::vector<Ticket> tickets;
  for (size_t i = 0; i < kChains; ++i) {
    chains.push_back(ChainKeys(model_, 100 + i, 2));
    ASSERT_THAT(StoreChunks(*client_, model_, {.keys = chains[i], .count = 2}), IsOk());
    ASSERT_OK_AND_ASSIGN(const Ticket ticket,
                         client_->SubmitLookup({.model = model_, .keys = chains[i]}));
    tickets.push_back(ticket);
  }
  std::vector<Completion> done;
  while (done.size() < kChains) {
    pollfd waits{.fd = client_->event_fd(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&waits, 1, 20'000), 1);
    for (Completion& completion : client_->Poll(5)) done.push_back(std::move(completion));
  }
  ASSERT_THAT(done, SizeIs(kChains));
  for (const Completion& completion : done) {
    const auto found = std::find(tickets.begin(), tickets.end(), completion.ticket);
    ASSERT_NE(found, tickets.end());
    ASSERT_THAT(completion.status, IsOk());
    const Match& match = std::get<Match>(completion.value);
    ASSERT_EQ(match.chunks, 2u);
    EXPECT_THAT(ReadLease(*client_, model_, match.lease,
                          chains[static_cast<size_t>(found - tickets.begin())], 2),
                IsOk());
  }
  EXPECT_EQ(daemon().Status().leases(), kChains);
  // A client that goes takes its leases with it.
  client_.reset();
  EXPECT_TRUE(Await([&] { return daemon().Status().leases() == 0; }));
  EXPECT_EQ(daemon().Status().sessions(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Transports, RoundTripTest,
                         ::testing::Values(Transport::kStream, Transport::kSharedMemory),
                         [](const auto& transport) {
                           return transport.param == Transport::kStream ? "Stream" : "SharedMemory";
                         });

}  // namespace
}  // namespace kvtier::test_support
