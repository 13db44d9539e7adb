// A daemon with an attach socket, and raw clients of it.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/in_place_blocks.h"

namespace kvtier::test_support {

inline uint32_t Code(absl::StatusCode code) { return static_cast<uint32_t>(code); }

class AttachTest : public DaemonTest {
 protected:
  void Start(const std::string& more = "", std::vector<std::string> arguments = {}) {
    // Other users connect as well.
    ASSERT_EQ(chmod(directory().c_str(), 0755), 0);
    // What a test leaves leased or reserved is no reason to wait.
    arguments.insert(arguments.end(), {"--drain-seconds", "0"});
    StartDaemon(SmallConfig(more), arguments);
    ASSERT_NE(daemon_, nullptr);
  }
  std::unique_ptr<RawClient> Attach() { return RawClient::Attach(socket(), getpid()); }
  // Of the daemon. It answers a request before it closes what it sent, and is done with it once it
  // answers the next one.
  size_t FilesAfter(RawClient& client) {
    EXPECT_EQ(client.channel.Segment(wire::ResidencyWord(0, 1'000'000), wire::SegmentAccess::kRead),
              Code(absl::StatusCode::kNotFound));
    return daemon().SettledFiles();
  }
};

}  // namespace kvtier::test_support
