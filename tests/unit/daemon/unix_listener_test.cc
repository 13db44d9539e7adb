// Proves that the socket has its mode and goes with its owner, that a stale one is replaced and a
// live one and other files are not, and that nobody but the daemon's own user can hold up a start,
// and he not for long. Works on real sockets in a directory of its own.
#include "daemon/unix_listener.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "tests/support/temp_dir.h"

namespace kvtier {
namespace {

using test_support::TempDir;
using ::testing::HasSubstr;

TEST(UnixListener, HasItsModeAndGoesWithItsOwner) {
  const TempDir dir;
  const std::string path = dir.path() + "/sub/k.sock";
  {
    const auto listener = UnixListener::Create(path, 0640);
    ASSERT_TRUE(listener.ok()) << listener.status();
    struct stat found {};
    ASSERT_EQ(stat(path.c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 07777, 0640u);
    ASSERT_EQ(stat((dir.path() + "/sub").c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 07777, 0755u);
  }
  EXPECT_FALSE(std::filesystem::exists(dir.path() + "/sub"));
}

TEST(UnixListener, ReplacesAStaleSocketOnly) {
  const TempDir dir;
  const std::string path = dir.path() + "/k.sock";
  const auto first = UnixListener::Create(path, 0600);
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = UnixListener::Create(path, 0600);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(second.status().message(), HasSubstr(absl::StrCat("pid ", getpid())));
  EXPECT_THAT(second.status().message(), HasSubstr(path));

  const std::string stale = dir.path() + "/stale.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, stale.data(), stale.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  close(fd);
  EXPECT_TRUE(UnixListener::Create(stale, 0600).ok());

  const std::string file = dir.path() + "/file";
  std::ofstream(file) << "keep me";
  EXPECT_THAT(UnixListener::Create(file, 0600).status().message(),
              HasSubstr("is not a socket; it is left alone"));
  EXPECT_TRUE(std::filesystem::exists(file));
  EXPECT_THAT(UnixListener::Create(std::string(200, 'x'), 0600).status().message(),
              HasSubstr("has 200 bytes; 1 to 107 are allowed"));
}

// Anyone who may read a directory may lock it.
TEST(UnixListener, PacketsAsStreams) {
  const TempDir dir;
  const std::string path = dir.path() + "/k.sock.shm";
  const auto create = [&path](int type) {
    return UnixListener::Create(path, 0600, absl::Seconds(5), type);
  };
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  // Left by a daemon that was killed.
  const int stale = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  ASSERT_EQ(bind(stale, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  close(stale);
  const auto listener = create(SOCK_SEQPACKET);
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_EQ(create(SOCK_SEQPACKET).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_FALSE(create(SOCK_STREAM).ok()) << "whatever answers there is not replaced";
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  close(fd);
}

TEST(UnixListener, ALockOnTheDirectoryHoldsNobodyUp) {
  const TempDir dir;
  const int fd = open(dir.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const absl::Cleanup close_fd = [fd] { close(fd); };
  ASSERT_EQ(flock(fd, LOCK_EX), 0);
  EXPECT_TRUE(UnixListener::Create(dir.path() + "/k.sock", 0600).ok());
}

TEST(UnixListener, WaitsForAnotherStartAndNotForEver) {
  const TempDir dir;
  const std::string path = dir.path() + "/k.sock";
  const std::string lock = dir.Write("k.sock.lock", "4711\n");
  const int fd = open(lock.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(flock(fd, LOCK_EX), 0);
  const auto refused = UnixListener::Create(path, 0600, absl::Milliseconds(50));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(refused.status().message(), absl::StrCat("another process (pid 4711) holds ", lock,
                                                     ", as a kvtierd does while it starts"));
  EXPECT_TRUE(std::filesystem::exists(lock)) << "it is not ours to remove";
  // What its holder left is taken over, also when he removed it last.
  std::thread other([fd, &lock] {
    unlink(lock.c_str());
    close(fd);
  });
  EXPECT_TRUE(UnixListener::Create(path, 0600, absl::Seconds(20)).ok());
  other.join();
  EXPECT_FALSE(std::filesystem::exists(lock));
  dir.Write("k.sock.lock", "1\n");  // of a daemon that was killed while it started
  EXPECT_TRUE(UnixListener::Create(path, 0600, absl::ZeroDuration()).ok());
}

TEST(UnixListener, TheLockFileIsNeverAnothers) {
  const TempDir dir;
  const std::string path = dir.path() + "/k.sock";
  const std::string target = dir.Write("target", "keep me");
  std::filesystem::create_symlink(target, path + ".lock");
  EXPECT_THAT(std::string(UnixListener::Create(path, 0600).status().message()),
              HasSubstr(absl::StrCat("open ", path, ".lock: ")));
  EXPECT_EQ(std::filesystem::file_size(target), 7u);
  std::filesystem::remove(path + ".lock");
  ASSERT_EQ(mkfifo((path + ".lock").c_str(), 0666), 0);
  EXPECT_THAT(std::string(UnixListener::Create(path, 0600).status().message()),
              HasSubstr(path + ".lock is not a plain file: remove it"));
  std::filesystem::remove(path + ".lock");
  dir.Write("k.sock.lock", "");
  if (chown((path + ".lock").c_str(), 12345, 0) != 0) return;  // for root only
  EXPECT_THAT(std::string(UnixListener::Create(path, 0600).status().message()),
              HasSubstr(".lock belongs to uid 12345, not to uid 0: remove it"));
}

TEST(UnixListener, AMissingParentIsNamed) {
  const TempDir dir;
  const std::string missing = dir.path() + "/a";
  EXPECT_EQ(UnixListener::Create(missing + "/b/k.sock", 0600).status().message(),
            absl::StrCat("make directory ", missing, "/b: ", missing, " does not exist"));
}

}  // namespace
}  // namespace kvtier
