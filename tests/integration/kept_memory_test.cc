// A tenant whose processes never let go of the memory that they were given takes no more of the
// machine than twice its limit, and nothing from another tenant; a client of the library lets go.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/client_blocks.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/in_place_blocks.h"
#include "tests/support/raw_shared_client.h"
#include "tests/support/status_matchers.h"
#include "tiering/host/owned_fd.h"

namespace kvtier::test_support {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kQuota = 2 * kMiB;  // in each pool
// The test itself is mallory.
constexpr const char* kTenants = R"(tenants:
  - {name: mallory, uids: [0], admin: true, quota_bytes: {'hbm:0': 2MiB, 'dram:0': 2MiB}}
  - {name: bert, uids: [60002], quota_bytes: {'hbm:0': 4MiB, 'dram:0': 4MiB}}
listen: {http: '127.0.0.1:0'}
)";

class KeptMemoryTest : public DaemonTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root, to run a client as another user";
    // The directory of a test is its owner's alone.
    ASSERT_EQ(chmod(directory().c_str(), 0755), 0);
    StartDaemon(SmallConfig(kTenants, "8MiB", "8MiB"), {"--drain-seconds", "0"});
    ASSERT_NE(daemon_, nullptr);
    ChildProcess::Options options;
    options.arguments = {HelperPath("tenant_client"), socket(), absl::StrCat(60'002)};
    auto bert = ChildProcess::Start(options);
    ASSERT_THAT(bert, IsOk());
    bert_ = *std::move(bert);
    ASSERT_THAT(bert_->ReadLine(kSoon), IsOk());
  }
  void TearDown() override {
    bert_.reset();
    kept_.clear();
    names_.clear();
    DaemonTest::TearDown();
  }
  std::string AskBert(const std::string& line) {
    EXPECT_THAT(bert_->WriteLine(line), IsOk());
    const auto answer = bert_->ReadLine(kSoon);
    EXPECT_THAT(answer, IsOk());
    return answer.ok() ? *answer : "";
  }
  v1::PoolsReply::Tenant Mallory(const v1::PoolsReply::Pool& pool) { return pool.tenants(0); }
  uint64_t KeptBytes() {
    uint64_t sum = 0;
    const v1::PoolsReply pools = daemon().Pools();
    for (const v1::PoolsReply::Pool& pool : pools.pools()) sum += Mallory(pool).kept_bytes();
    return sum;
  }

  // Writes a block in place, says goodbye and keeps what it was given: a mapping, or nothing but a
  // descriptor of the name. False when the daemon gave it no place.
  bool WriteAndKeep(int round, std::string& refusal) {
    const auto writer = RawClient::Attach(socket(), getpid());
    if (writer == nullptr) return false;
    const std::string name = absl::StrCat("block ", round), bytes = RawBlock(1);
    v1::ReserveReply reserved;
    const grpc::Status status = writer->session->Reserve(1, true, reserved);
    refusal = status.error_message();
    const bool in_place = status.ok() && reserved.words_size() == 1;
    if (in_place) {
      const wire::ResidencyWord word(reserved.words(0));
      RawChannel& channel = writer->channel;
      EXPECT_EQ(channel.Segment(word, wire::SegmentAccess::kWrite), 0u) << channel.text;
      auto mapped =
          std::make_unique<RawMapping>(channel.segment_fd(), channel.segment().segment_bytes, true);
      EXPECT_NE(mapped->get(), nullptr);
      EXPECT_EQ(channel.Mapped(word), 0u);
      std::copy_n(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size(),
                  mapped->get() + word.slot() * channel.segment().slot_bytes);
      EXPECT_EQ(writer->session->Commit(reserved.reservation_id(), 0, name, bytes).outcome(),
                v1::CommitReply::COMMITTED);
      if (round % 2 == 0) {
        kept_.push_back(std::move(mapped));
      } else {
        names_.emplace_back(
            open(absl::StrCat("/proc/self/fd/", channel.segment_fd()).c_str(), O_PATH | O_CLOEXEC));
        EXPECT_TRUE(names_.back().valid());
      }
    }
    writer->SayGoodbye();
    writer->session->Forget(name);
    writer->session->Detach();
    return in_place;
  }

  std::unique_ptr<ChildProcess> bert_;
  std::vector<std::unique_ptr<RawMapping>> kept_;
  std::vector<OwnedFd> names_;
};

TEST_F(KeptMemoryTest, WhoNeverUnmapsGetsTwiceItsLimitAndHarmsNobody) {
  ASSERT_EQ(AskBert("store 1 3"), "OK 3");
  std::string refusal;
  int written = 0;
  for (int round = 0; round < 40; ++round) {
    written += WriteAndKeep(round, refusal) ? 1 : 0;
    // Its inbox is given back once the daemon has seen the goodbye. In which pool the next one is
    // depends on that.
    ASSERT_TRUE(Await([&] { return KeptBytes() == static_cast<uint64_t>(written) * kMiB; }))
        << round << ": " << KeptBytes();
    const v1::PoolsReply pools = daemon().Pools();
    for (const v1::PoolsReply::Pool& pool : pools.pools())
      ASSERT_LE(Mallory(pool).kept_bytes() + Mallory(pool).used_bytes(), 2 * kQuota) << round;
    if (round % 10 == 5) {
      ASSERT_EQ(AskBert("read 1 3"), "3") << round;
      ASSERT_EQ(AskBert(absl::StrCat("store ", round, " 3")), "OK 3");
    }
  }
  // Twice the limit of each pool, in segments that it has one by one, and no more ever. The last of
  // them is one that it writes by stream from then on, so that it is not refused.
  EXPECT_EQ(written, 7);
  EXPECT_EQ(kept_.size() + names_.size(), 7u);
  EXPECT_EQ(refusal, "");
  ASSERT_TRUE(Await([&] { return KeptBytes() == 4 * kQuota - kMiB; }));
  EXPECT_EQ(daemon().Metric("kvtier_pool_kept_bytes{pool=\"dram:0\",tenant=\"mallory\"}"),
            static_cast<int64_t>(2 * kQuota));
  EXPECT_EQ(daemon().Metric("kvtier_pool_kept_bytes{pool=\"dram:0\",tenant=\"bert\"}"), 0);
  ASSERT_EQ(AskBert("read 35 3"), "3");

  // What it lets go of it may have again, once the pool has unmapped it, too.
  kept_.pop_back();
  names_.pop_back();
  ASSERT_TRUE(Await([&] { return KeptBytes() == 4 * kQuota - 3 * kMiB; }));
  EXPECT_TRUE(WriteAndKeep(100, refusal));
  EXPECT_TRUE(WriteAndKeep(101, refusal));
  kept_.clear();
  names_.clear();
  EXPECT_TRUE(Await([&] { return KeptBytes() == 0; }));
}

class IdleClientTest : public ClientTest {
 protected:
  uint64_t KeptBytes() {
    uint64_t sum = 0;
    const v1::PoolsReply pools = daemon().Pools();
    for (const v1::PoolsReply::Pool& pool : pools.pools()) {
      for (const v1::PoolsReply::Tenant& tenant : pool.tenants()) sum += tenant.kept_bytes();
    }
    return sum;
  }
};

TEST_F(IdleClientTest, LetsGoOfWhatIsOverWithoutBeingCalled) {
  Start();
  const std::vector<Key> keys = ChainKeys(model_, 1, 4);
  {
    const auto writer = Connect(Options("writer"));
    ASSERT_NE(writer, nullptr);
    ASSERT_OK_AND_ASSIGN(const Model theirs, writer->RegisterModel(UnequalModel()));
    ASSERT_THAT(StoreChunks(*writer, theirs, {.keys = keys, .count = 4}), IsOk());
    ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunksInPlace(*client_, model_, keys));
    ASSERT_EQ(read, 4u);
    EXPECT_GT(FactsOf(getpid()).memfd_bytes, 0u);
    ASSERT_OK_AND_ASSIGN(const uint32_t forgotten, writer->Forget(theirs, keys));
    EXPECT_EQ(forgotten, 4u);
  }
  // The writer's inboxes go back with its end, and only the other client maps them.
  EXPECT_TRUE(Await([&] { return FactsOf(getpid()).memfd_bytes == 0; }));
  EXPECT_TRUE(Await([&] { return KeptBytes() == 0; }));
}

}  // namespace
}  // namespace kvtier::test_support
