// Threads read blocks in place while the daemon moves them between two pools, of which the first is
// too small for all: every byte that a section resolved is the block's own, for as long as the
// section lasts, and tables that are patched from the relocation log find what moved.
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/client_blocks.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier::test_support {
namespace {

constexpr size_t kChains = 6;
constexpr size_t kChunks = 40;  // 6 chains of 40 chunks take 4.5 MiB
constexpr int kReaders = 3;

class MovingBlocksTest : public ClientTest {
 protected:
  struct Reader {
    std::unique_ptr<Client> client;
    Model model;
    uint64_t moved = 0;    // blocks that tables found elsewhere
    uint64_t checked = 0;  // views whose bytes were compared
    absl::Status status;
  };

  absl::Status CheckViews(const BlockTable& table, const std::vector<Key>& keys, Rng& rng,
                          uint64_t& checked) {
    const size_t planes = table.planes().size();
    for (uint32_t i = 0; i < 24; ++i) {
      const auto chunk = static_cast<uint32_t>(rng.Below(keys.size()));
      const auto plane = static_cast<uint32_t>(rng.Below(planes));
      const BlockView& view = table.view(chunk, plane);
      if (view.data == nullptr) {
        return absl::InternalError(absl::StrCat("chunk ", chunk, " plane ", plane,
                                                " has no address: code ",
                                                static_cast<int>(view.code)));
      }
      const std::vector<std::byte>& bytes = expected_.at({keys[chunk], plane});
      if (std::memcmp(view.data, bytes.data(), bytes.size()) != 0) {
        return absl::DataLossError(
            absl::StrCat("chunk ", chunk, " plane ", plane, " has other bytes than its own"));
      }
      ++checked;
    }
    return absl::OkStatus();
  }

  // Leases chains in turn, and looks at each through one table over many sections.
  absl::Status Read(Reader& reader, uint64_t seed) {
    Rng rng(seed);
    while (!done_.load()) {
      const std::vector<Key>& keys = keys_[rng.Below(kChains)];
      auto match = reader.client->Lookup({.model = reader.model, .keys = keys});
      if (!match.ok()) return match.status();
      if (match->chunks != kChunks) return absl::InternalError("a chain is not whole");
      BlockTable table(match->lease, {});
      for (int step = 0; step < 40; ++step) {
        auto section = reader.client->EnterSection();
        if (!section.ok()) return section.status();
        auto moved = table.Update(*section);
        if (!moved.ok()) return moved.status();
        reader.moved += *moved;
        absl::Status status = CheckViews(table, keys, rng, reader.checked);
        if (!status.ok()) return status;
        if (step % 16 != 0) continue;
        // By key, at the same time, without the table.
        std::vector<BlockView> views(keys.size() * 3);
        auto found = section->ResolveKeys(reader.model, keys, {}, absl::MakeSpan(views));
        if (!found.ok()) return found.status();
        if (*found != views.size()) return absl::InternalError("a key was not found");
        const size_t at = rng.Below(views.size());
        const std::vector<std::byte>& bytes =
            expected_.at({keys[at / 3], static_cast<uint32_t>(at % 3)});
        if (std::memcmp(views[at].data, bytes.data(), bytes.size()) != 0) {
          return absl::DataLossError("a block found by key has other bytes than its own");
        }
      }
      absl::Status status = reader.client->Release(match->lease);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  std::vector<std::vector<Key>> keys_;
  std::map<std::pair<Key, uint32_t>, std::vector<std::byte>> expected_;
  std::atomic<bool> done_{false};
};

TEST_F(MovingBlocksTest, EveryByteIsItsOwn) {
  const uint64_t seed = TestSeed(1);
  StartDaemon(SmallConfig("", "2MiB", "12MiB"));
  ClientOptions options = Options();
  options.transport = Transport::kSharedMemory;
  client_ = Connect(options);
  ASSERT_OK_AND_ASSIGN(model_, client_->RegisterModel(UnequalModel()));
  for (size_t chain = 0; chain < kChains; ++chain) {
    keys_.push_back(ChainKeys(model_, chain, kChunks));
    ASSERT_THAT(StoreChunks(*client_, model_, {.keys = keys_.back(), .count = kChunks}), IsOk());
    for (const Key& key : keys_.back()) {
      for (uint32_t plane = 0; plane < 3; ++plane) {
        expected_[{key, plane}] =
            BlockBytes(key, plane, model_.geometry().planes[plane].bytes_per_chunk);
      }
    }
  }
  std::vector<Reader> readers(kReaders);
  for (Reader& reader : readers) {
    options.report_every = 1;
    reader.client = Connect(options);
    ASSERT_OK_AND_ASSIGN(reader.model, reader.client->RegisterModel(UnequalModel()));
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < kReaders; ++i) {
    threads.emplace_back([this, &readers, i, seed] {
      readers[static_cast<size_t>(i)].status =
          Read(readers[static_cast<size_t>(i)], seed * 100 + static_cast<uint64_t>(i));
      if (!readers[static_cast<size_t>(i)].status.ok()) done_ = true;
    });
  }
  // Until the daemon has moved each block several times, or a reader has failed.
  EXPECT_TRUE(
      Await([&] { return done_.load() || daemon().Status().counters().at("moves_done") > 3'000; }));
  done_ = true;
  for (std::thread& thread : threads) thread.join();
  uint64_t moved = 0;
  for (const Reader& reader : readers) {
    EXPECT_THAT(reader.status, IsOk());
    EXPECT_GT(reader.checked, 0u);
    moved += reader.moved;
  }
  EXPECT_GT(moved, 0u) << "no table has seen a move";
  EXPECT_EQ(daemon().Status().counters().at("corrupt_copies"), 0u);
  RecordProperty("moved", std::to_string(moved));
}

TEST_F(MovingBlocksTest, ATableFollowsTheLog) {
  StartDaemon(SmallConfig("", "4MiB", "12MiB"));
  ClientOptions options = Options();
  options.transport = Transport::kSharedMemory;
  options.report_every = 0;  // nothing is promoted meanwhile
  client_ = Connect(options);
  ASSERT_OK_AND_ASSIGN(model_, client_->RegisterModel(UnequalModel()));
  const std::vector<Key> keys = ChainKeys(model_, 1, 80);
  ASSERT_THAT(StoreChunks(*client_, model_, {.keys = keys, .count = 80}), IsOk());
  ASSERT_OK_AND_ASSIGN(const Match match, client_->Lookup({.model = model_, .keys = keys}));
  BlockTable table(match.lease, {2, 0});
  {
    ASSERT_OK_AND_ASSIGN(ReadSection section, client_->EnterSection());
    ASSERT_OK_AND_ASSIGN(const size_t first, table.Update(section));
    EXPECT_EQ(first, 0u);
    EXPECT_EQ(table.missing(), 0u);
  }
  {
    ASSERT_OK_AND_ASSIGN(ReadSection section, client_->EnterSection());
    ASSERT_OK_AND_ASSIGN(const size_t second, table.Update(section));
    EXPECT_EQ(second, 0u);
  }
  v1::SetBudgetRequest budget;
  budget.set_pool("hbm:0");
  budget.set_budget_bytes(1 << 20);
  v1::SetBudgetReply reply;
  grpc::ClientContext context;
  ASSERT_TRUE(daemon().admin().SetBudget(&context, budget, &reply).ok());
  uint64_t done = 0;
  ASSERT_TRUE(Await([&] {
    const v1::StatusReply status = daemon().Status();
    const uint64_t before = done;
    done = status.counters().at("moves_done");
    return done > 40 && done == before && status.moves_in_flight() == 0;
  }));
  ASSERT_OK_AND_ASSIGN(ReadSection section, client_->EnterSection());
  ASSERT_OK_AND_ASSIGN(const size_t moved, table.Update(section));
  EXPECT_GT(moved, 0u);
  EXPECT_EQ(table.missing(), 0u);
  for (uint32_t chunk = 0; chunk < 80; ++chunk) {
    for (uint32_t index = 0; index < 2; ++index) {
      const BlockView& view = table.view(chunk, index);
      const std::vector<std::byte> bytes =
          BlockBytes(keys[chunk], table.planes()[index], view.bytes);
      EXPECT_EQ(std::memcmp(view.data, bytes.data(), bytes.size()), 0) << chunk << " " << index;
    }
  }
}

// Clients number their leases alike, so the number alone does not tell.
TEST_F(MovingBlocksTest, ATableIsOfOneClientsLease) {
  StartDaemon(SmallConfig());
  ClientOptions options = Options();
  options.transport = Transport::kSharedMemory;
  client_ = Connect(options);
  ASSERT_OK_AND_ASSIGN(model_, client_->RegisterModel(UnequalModel()));
  const std::vector<Key> keys = ChainKeys(model_, 1, 8);
  ASSERT_THAT(StoreChunks(*client_, model_, {.keys = keys, .count = 8}), IsOk());
  ASSERT_OK_AND_ASSIGN(const Match match, client_->Lookup({.model = model_, .keys = keys}));
  BlockTable table(match.lease, {});
  {
    ASSERT_OK_AND_ASSIGN(ReadSection section, client_->EnterSection());
    EXPECT_THAT(table.Update(section), IsOk());
  }
  const auto other = Connect(options);
  ASSERT_OK_AND_ASSIGN(const Model model, other->RegisterModel(UnequalModel()));
  ASSERT_OK_AND_ASSIGN(const Match less, other->Lookup({.model = model, .keys = {keys[0]}}));
  ASSERT_EQ(less.lease, match.lease);
  ASSERT_OK_AND_ASSIGN(ReadSection section, other->EnterSection());
  EXPECT_THAT(table.Update(section), StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace kvtier::test_support
