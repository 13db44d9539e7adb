// Two users of the machine, told apart by the kernel: neither finds, lists, forgets, extends or
// evicts what the other stored, not even when it knows the other's keys and numbers, and quotas
// hold for each. Needs root, to run clients as other users.
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/status_matchers.h"

namespace kvtier::test_support {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int kAnna = 60'001;
constexpr int kBert = 60'002;
constexpr int kStranger = 60'003;

constexpr const char* kTenants = R"(tenants:
  - {name: ops, uids: [0], admin: true}
  - {name: anna, uids: [60001], quota_bytes: {'hbm:0': 3MiB, 'dram:0': 3MiB}}
  - {name: bert, uids: [60002], quota_bytes: {'hbm:0': 3MiB, 'dram:0': 4MiB}}
)";

class TenantsTest : public DaemonTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root, to run clients as other users";
    // The directory of a test is its owner's alone.
    ASSERT_EQ(chmod(directory().c_str(), 0755), 0);
    StartDaemon(SmallConfig(kTenants, "8MiB", "8MiB"));
    if (HasFatalFailure()) return;
    anna_ = Start(kAnna, "ready anna");
    bert_ = Start(kBert, "ready bert");
    ASSERT_TRUE(anna_ != nullptr && bert_ != nullptr);
  }
  void TearDown() override {
    anna_.reset();
    bert_.reset();
    DaemonTest::TearDown();
  }
  std::unique_ptr<ChildProcess> Start(int uid, const std::string& greeting) {
    ChildProcess::Options options;
    options.arguments = {HelperPath("tenant_client"), socket(), absl::StrCat(uid)};
    auto child = ChildProcess::Start(options);
    EXPECT_THAT(child, IsOk());
    const auto line = (*child)->ReadLine(kSoon);
    EXPECT_THAT(line, IsOk());
    EXPECT_THAT(*line, StartsWith(greeting));
    return *std::move(child);
  }
  static std::string Ask(ChildProcess& client, const std::string& line) {
    EXPECT_THAT(client.WriteLine(line), IsOk());
    const auto answer = client.ReadLine(kSoon);
    EXPECT_THAT(answer, IsOk());
    return answer.ok() ? *answer : "";
  }

  std::unique_ptr<ChildProcess> anna_, bert_;
};

TEST_F(TenantsTest, KnowingKeysIsOfNoUse) {
  EXPECT_EQ(Ask(*anna_, "store 1 3"), "OK 3");
  const std::string keys = Ask(*anna_, "keys 1 3");
  const std::string last = keys.substr(2 * 33, 32);
  EXPECT_EQ(Ask(*anna_, "lookup " + keys), "3");
  EXPECT_NE(Ask(*bert_, "keys 1 3"), keys) << "keys are salted";
  EXPECT_EQ(Ask(*bert_, "lookup " + keys), "0");
  EXPECT_EQ(Ask(*bert_, "forget " + keys), "0");
  EXPECT_THAT(Ask(*bert_, "reserve " + last), StartsWith("FAILED_PRECONDITION"));
  EXPECT_EQ(Ask(*anna_, "reserve " + last), "OK");
  EXPECT_EQ(Ask(*anna_, "blocks"), "3");
  EXPECT_EQ(Ask(*bert_, "blocks"), "0");
  EXPECT_EQ(Ask(*bert_, "store 1 2"), "OK 2") << "the same tokens are another chunk";
  EXPECT_EQ(Ask(*anna_, "read 1 3"), "3");
  EXPECT_EQ(Ask(*bert_, "forget " + Ask(*bert_, "keys 1 2")), "2");
  EXPECT_EQ(Ask(*anna_, "read 1 3"), "3");
}

TEST_F(TenantsTest, NumbersOfAnothersSessionAndLeaseAreUnknown) {
  EXPECT_EQ(Ask(*anna_, "store 1 1"), "OK 1");
  const std::string ids = Ask(*anna_, "ids");
  const std::string session = ids.substr(0, ids.find(' '));
  EXPECT_THAT(Ask(*anna_, "fetch " + ids), StartsWith("OK pieces 3"));
  EXPECT_THAT(Ask(*bert_, "fetch " + ids), StartsWith("code 5: "));
  EXPECT_THAT(Ask(*bert_, "release " + ids), HasSubstr(" released 0"));
  EXPECT_THAT(Ask(*bert_, "detach " + session), StartsWith("code 5: "));
  EXPECT_THAT(Ask(*anna_, "fetch " + ids), StartsWith("OK pieces 3"));
  EXPECT_EQ(Ask(*anna_, "detach " + session), "OK");
}

TEST_F(TenantsTest, QuotasHoldAndNobodyEvictsAnothers) {
  for (int chain = 1; chain <= 20; ++chain) {
    ASSERT_EQ(Ask(*anna_, absl::StrCat("store ", chain, " 3")), "OK 3");
  }
  // Bert stores several times what there is room for.
  for (int chain = 1; chain <= 300; ++chain) {
    ASSERT_EQ(Ask(*bert_, absl::StrCat("store ", chain, " 4")), "OK 4");
  }
  for (int chain = 1; chain <= 20; ++chain) {
    EXPECT_EQ(Ask(*anna_, absl::StrCat("read ", chain, " 3")), "3") << "chain " << chain;
  }
  EXPECT_EQ(Ask(*bert_, "read 300 4"), "4") << "the newest is there";
  // The oldest make room. Those in the fast pool do when they have moved down, in the daemon's own
  // time. Whoever looks at a chain makes it new: so at another one each time.
  int oldest = 1, chain = 300;
  EXPECT_TRUE(Await([&] {
    if (Ask(*bert_, absl::StrCat("read ", oldest, " 4")) == "0") return true;
    ++oldest;
    for (const int end = chain + 20; chain < end;)
      EXPECT_EQ(Ask(*bert_, absl::StrCat("store ", ++chain, " 4")), "OK 4");
    return oldest == 100;
  }));
  EXPECT_LT(oldest, 10);
  const v1::PoolsReply pools = daemon().Pools();
  for (const v1::PoolsReply::Pool& pool : pools.pools()) {
    for (const v1::PoolsReply::Tenant& tenant : pool.tenants()) {
      EXPECT_LE(tenant.used_bytes(), tenant.quota_bytes()) << pool.name() << " " << tenant.name();
    }
  }
}

TEST_F(TenantsTest, StrangersAreRefused) {
  const auto stranger = Start(kStranger, "PERMISSION_DENIED");
  ASSERT_OK_AND_ASSIGN(const int status, stranger->Wait(kSoon));
  EXPECT_NE(status, 0);
  EXPECT_EQ(Ask(*anna_, "store 1 1"), "OK 1") << "others are served on";
  EXPECT_THAT(daemon().Log(), HasSubstr(absl::StrCat(kStranger)));
}

}  // namespace
}  // namespace kvtier::test_support
