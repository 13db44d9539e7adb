#include "client/cli/output_file.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/interrupt.h"

namespace kvtier::cli {
namespace {

constexpr int kLinksMax = 40;  // as many as the kernel follows

absl::Status CannotWrite(const std::string& path, int error) {
  return absl::PermissionDeniedError(
      absl::StrCat("cannot write ", path, ": ", std::strerror(error)));
}

// The path behind symbolic links in its last part, whether there is anything or not.
std::string FollowLinks(std::filesystem::path path) {
  std::error_code error;
  for (int i = 0; i < kLinksMax && std::filesystem::is_symlink(path, error); ++i) {
    const std::filesystem::path link = std::filesystem::read_symlink(path, error);
    if (error) break;
    path = path.parent_path() / link;  // an absolute link takes the place of all
  }
  return path.string();
}

}  // namespace

absl::StatusOr<std::unique_ptr<OutputFile>> OutputFile::Create(const std::string& path) {
  auto file = std::unique_ptr<OutputFile>(new OutputFile(path));
  absl::Status status;
  if (path == "-") {
    file->fd_ = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    status = file->fd_ < 0 ? CannotWrite("the standard output", errno) : absl::OkStatus();
  } else {
    const bool there = ::stat(path.c_str(), &file->old_) == 0;
    if (!there && errno != ENOENT) return CannotWrite(path, errno);
    file->exists_ = there;
    status = there && !S_ISREG(file->old_.st_mode) ? file->OpenInPlace() : file->OpenTemporary();
  }
  if (!status.ok()) return status;
  return file;
}

absl::Status OutputFile::OpenInPlace() {
  // Opening a pipe waits for its reader; a signal ends that.
  do {
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
  } while (fd_ < 0 && errno == EINTR && CaughtSignal() == 0);
  if (fd_ >= 0) return absl::OkStatus();
  const int error = errno;
  if (absl::Status interrupted = CheckInterrupted(); !interrupted.ok()) return interrupted;
  return CannotWrite(path_, error);
}

absl::Status OutputFile::OpenTemporary() {
  target_ = FollowLinks(path_);
  struct stat behind {};
  const bool there = ::stat(target_.c_str(), &behind) == 0;
  // Not the same: a link that only the kernel can follow, to a file that was removed for example.
  if (there != exists_ || (there && (behind.st_dev != old_.st_dev || behind.st_ino != old_.st_ino)))
    return CannotWrite(path_, ELOOP);
  // Replacing needs no permission to write the file; that is no reason to overrule its owner.
  if (there && ::access(target_.c_str(), W_OK) != 0) return CannotWrite(path_, errno);
  temporary_ = (std::filesystem::path(target_).parent_path() / ".kvtier-get-XXXXXX").string();
  fd_ = ::mkostemp(temporary_.data(), O_CLOEXEC);
  if (fd_ >= 0) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("cannot make a file beside ", target_, ": ", std::strerror(errno)));
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

absl::Status OutputFile::Error(const char* what) const {
  const int error = errno;
  return absl::DataLossError(absl::StrCat(what, " ", path_ == "-" ? "the standard output" : path_,
                                          ": ", std::strerror(error)));
}

absl::Status OutputFile::Write(const char* bytes, size_t count) {
  while (count > 0) {
    if (absl::Status status = AwaitReady(fd_, POLLOUT); !status.ok()) return status;
    const ssize_t written = ::write(fd_, bytes, count);
    if (written < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (written < 0) return Error("cannot write");
    bytes += written;
    count -= static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

absl::Status OutputFile::SetMode() {
  if (!exists_) {
    // mkostemp made it private; give it what a new file would have.
    const mode_t mask = ::umask(0);
    ::umask(mask);
    return ::fchmod(fd_, 0666 & ~mask) == 0 ? absl::OkStatus() : Error("cannot set the mode of");
  }
  // Only root may give a file away; for others it becomes the caller's own.
  [[maybe_unused]] const int given = ::fchown(fd_, old_.st_uid, old_.st_gid);
  return ::fchmod(fd_, old_.st_mode & 0777) == 0 ? absl::OkStatus()
                                                 : Error("cannot set the mode of");
}

absl::Status OutputFile::Commit() {
  if (!temporary_.empty()) {
    if (absl::Status status = SetMode(); !status.ok()) return status;
    if (::fsync(fd_) != 0) return Error("cannot write");
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) return Error("cannot rename to");
  }
  temporary_.clear();
  // Some file systems report only now what they could not write.
  const int closed = ::close(std::exchange(fd_, -1));
  return closed == 0 || errno == EINTR ? absl::OkStatus() : Error("cannot write");
}

absl::Status WriteFile(const std::string& path, const std::string& bytes) {
  auto file = OutputFile::Create(path);
  if (!file.ok()) return file.status();
  absl::Status status = (*file)->Write(bytes.data(), bytes.size());
  return status.ok() ? (*file)->Commit() : status;
}

absl::Status CheckApart(const std::vector<std::string>& written,
                        const std::vector<std::string>& read) {
  const auto same = [](const std::string& a, const std::string& b) {
    struct stat of_a {
    }, of_b{};
    const bool a_there = ::stat(a.c_str(), &of_a) == 0, b_there = ::stat(b.c_str(), &of_b) == 0;
    if (!a_there && !b_there) return a == b;
    return a_there && b_there && S_ISREG(of_a.st_mode) && of_a.st_dev == of_b.st_dev &&
           of_a.st_ino == of_b.st_ino;
  };
  const auto none = [](const std::string& path) { return path.empty() || path == "-"; };
  for (size_t i = 0; i < written.size(); ++i) {
    if (none(written[i])) continue;
    for (const std::string& path : read) {
      if (!none(path) && same(written[i], path))
        return UsageError(absl::StrCat(written[i], " would be written over, and is read as well"));
    }
    for (size_t j = 0; j < i; ++j) {
      if (!none(written[j]) && same(written[i], written[j]))
        return UsageError(absl::StrCat(written[i], " would be written twice"));
    }
  }
  return absl::OkStatus();
}

}  // namespace kvtier::cli
