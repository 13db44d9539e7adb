// Proves that bytes put through the client come back unchanged into scattered memory, that what was
// damaged on the way is reported block by block, and that wrong buffers and handles are refused
// before anything is sent. Runs against the fake daemon of this folder.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/unit/client/client_fixture.h"

namespace kvtier::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class TransferTest : public ClientTest {
 protected:
  void SetUp() override {
    Attach();
    auto model = client_->RegisterModel(Geometry());
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *model;
  }
  LeaseHandle Lease(const std::vector<Key>& keys) {
    auto match = client_->Lookup({.model = model_, .keys = keys});
    EXPECT_TRUE(match.ok()) << match.status();
    EXPECT_EQ(match->chunks, keys.size());
    return match->lease;
  }
  Model model_;
};

TEST_F(TransferTest, PutCommitLookupGetGivesTheSameBytes) {
  const std::vector<Key> keys = Store(model_, 3);
  std::vector<std::string> bytes;
  for (uint32_t chunk = 0; chunk < 3; ++chunk) {
    for (uint32_t plane = 0; plane < 2; ++plane)
      bytes.emplace_back(Bytes(chunk, plane).size(), 'x');
  }
  GetRequest get{.model = model_, .lease = Lease(keys)};
  // Not in order, and cut in three.
  for (const uint32_t block : {5u, 0u, 3u, 1u, 4u, 2u}) {
    std::string& b = bytes[block];
    get.blocks.push_back(
        {.chunk = block / 2,
         .plane = block % 2,
         .pieces = {{b.data(), 1}, {b.data() + 1, 500}, {b.data() + 501, b.size() - 501}}});
  }
  auto result = client_->Get(get);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->all_ok);
  for (uint32_t block = 0; block < 6; ++block) {
    EXPECT_EQ(bytes[block], Bytes(block / 2, block % 2)) << "block " << block;
  }
  EXPECT_EQ(result->bytes_by_pool, (std::map<std::string, uint64_t>{{"dram:0", 3 * 20'600}}));
  EXPECT_TRUE(client_->Release(get.lease).ok());
  EXPECT_EQ(client_->Release(get.lease).code(), absl::StatusCode::kNotFound);
}

TEST_F(TransferTest, MessagesStayBelowTheDaemonsLimit) {
  daemon_.set_behaviour({.message_bytes_max = 10'000});
  auto client = Client::Connect(Options());
  ASSERT_TRUE(client.ok()) << client.status();
  client_ = *std::move(client);
  auto model = client_->RegisterModel(Geometry());
  ASSERT_TRUE(model.ok());
  Store(*model, 1);
  EXPECT_GT(daemon_.largest_piece_bytes(), 4096u);
  EXPECT_LE(daemon_.largest_piece_bytes(), 10'000u);
}

TEST_F(TransferTest, ADamagedBlockIsDataLossAndTheOthersAreGood) {
  const std::vector<Key> keys = Store(model_, 3);
  daemon_.set_behaviour({.flip_fetched_bit = true});
  GetRequest get{.model = model_, .lease = Lease(keys)};
  std::vector<std::string> bytes(3, std::string(600, 'x'));
  for (uint32_t chunk = 0; chunk < 3; ++chunk) {
    get.blocks.push_back({.chunk = chunk, .plane = 1, .pieces = {{bytes[chunk].data(), 600}}});
  }
  auto result = client_->Get(get);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->all_ok);
  EXPECT_TRUE(result->blocks[0].status.ok());
  EXPECT_EQ(result->blocks[1].status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(result->blocks[1].status.message()), HasSubstr("chunk 1 plane 1"));
  EXPECT_TRUE(result->blocks[2].status.ok());
  EXPECT_EQ(bytes[2], Bytes(2, 1));
}

TEST_F(TransferTest, BuffersOfTheWrongSizeAreRefusedByName) {
  auto reservation = client_->Reserve({.model = model_, .chunk_count = 1});
  ASSERT_TRUE(reservation.ok());
  std::string bytes(30'000, 'x');
  const auto put = [&](uint32_t chunk, uint32_t plane, std::vector<ConstBuffer> pieces) {
    PutRequest request{.model = model_, .reservation = *reservation};
    request.blocks.push_back({.chunk = chunk, .plane = plane, .pieces = std::move(pieces)});
    const absl::Status status = client_->Put(request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(put(0, 0, {{bytes.data(), 19'999}}),
              AllOf(HasSubstr("chunk 0 plane 0"), HasSubstr("19999"), HasSubstr("20000")));
  EXPECT_THAT(put(0, 1, {{bytes.data(), 300}, {bytes.data(), 301}}),
              AllOf(HasSubstr("600"), HasSubstr("301"), HasSubstr("300 are left")))
      << "the sum is over by one";
  EXPECT_THAT(put(0, 0, {{nullptr, 20'000}}), HasSubstr("null"));
  EXPECT_THAT(put(0, 0, {{bytes.data(), ~size_t{0}}, {bytes.data(), 20'001}}), HasSubstr("20000"));
  EXPECT_THAT(put(1, 0, {{bytes.data(), 20'000}}),
              AllOf(HasSubstr("chunk 1"), HasSubstr("1 chunks")));
  EXPECT_THAT(put(0, 2, {{bytes.data(), 20'000}}), HasSubstr("plane 2"));
}

TEST_F(TransferTest, GetChecksEveryDestinationFirst) {
  const std::vector<Key> keys = Store(model_, 1);
  GetRequest get{.model = model_, .lease = Lease(keys)};
  std::string bytes(600, 'x');
  const auto code = [&](std::vector<BlockDestination> blocks) {
    get.blocks = std::move(blocks);
    return client_->Get(get).status().code();
  };
  EXPECT_EQ(code({{0, 1, {{bytes.data(), 599}}}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{1, 1, {{bytes.data(), 600}}}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{0, 9, {{bytes.data(), 600}}}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{0, 1, {{bytes.data(), 600}}}, {0, 1, {{bytes.data(), 600}}}}),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(bytes, std::string(600, 'x'));
  EXPECT_EQ(code({{0, 1, {{bytes.data(), 600}}}}), absl::StatusCode::kOk);
}

TEST_F(TransferTest, CommitNeedsEveryBlockToBePut) {
  auto reservation = client_->Reserve({.model = model_, .chunk_count = 1});
  ASSERT_TRUE(reservation.ok());
  const std::string bytes = Bytes(0, 0);
  PutRequest put{.model = model_, .reservation = *reservation};
  put.blocks.push_back({.chunk = 0, .plane = 0, .pieces = {{bytes.data(), bytes.size()}}});
  ASSERT_TRUE(client_->Put(put).ok());
  CommitRequest commit{.model = model_, .reservation = *reservation};
  commit.chunks.push_back({.chunk = 0, .key = model_.OpaqueKey({}, "a"), .token_count = 4});
  const absl::Status status = client_->Commit(commit).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("chunk 0 plane 1"));
}

TEST_F(TransferTest, AlreadyExistingChunksAreNoError) {
  Store(model_, 2);
  Store(model_, 2);  // EXPECTs inside: commit is OK again
}

TEST_F(TransferTest, HandlesOfNothingAreNotFound) {
  EXPECT_EQ(client_->Put({.model = model_, .reservation = 77}).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(client_->Get({.model = model_, .lease = 77}).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(client_->Abort(77).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(client_->Renew(77, absl::Seconds(1)).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(client_->Report(0, {}).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(client_->Reserve({}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(client_->Lookup({.model = Model()}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(TransferTest, ReportsRefuseMassOutOfRange) {
  const std::vector<Key> keys = Store(model_, 1);
  const LeaseHandle lease = Lease(keys);
  for (const double mass : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_EQ(client_->Report(lease, {{.plane = 0, .steps = 1, .mass = {mass}}}).code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(TransferTest, WatchEndsWhenToldAndWhenTheDaemonGoes) {
  std::vector<uint64_t> seen;
  EXPECT_TRUE(client_
                  ->Watch(2,
                          [&](const WatchEvent& event) {
                            seen.push_back(event.sequence);
                            EXPECT_EQ(event.kind, WatchEvent::Kind::kMoved);
                            EXPECT_EQ(event.pool, "hbm:0");
                            return event.sequence < 4;
                          })
                  .ok());
  EXPECT_EQ(seen, (std::vector<uint64_t>{3, 4}));
  const absl::Status status = client_->Watch(4, [](const WatchEvent&) { return true; });
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace kvtier::testing
