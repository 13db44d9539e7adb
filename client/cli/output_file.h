// Where commands write files to.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kvtier::cli {

// A regular file is written under a temporary name beside it and takes its own name with Commit();
// without that it is removed, and what was there stays as it was. A symbolic link stays, and what
// it points to is replaced. What exists and is no regular file (a pipe, a device) and the standard
// output ("-") are written to as the bytes come. Not thread-safe.
class OutputFile {
 public:
  // Opens it; waits for a reader where it is a pipe. PERMISSION_DENIED: it cannot be written, for
  // the reason given; CANCELLED: a signal came.
  static absl::StatusOr<std::unique_ptr<OutputFile>> Create(const std::string& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // DATA_LOSS: not written; CANCELLED: a signal came.
  absl::Status Write(const char* bytes, size_t count);
  // All is written. The mode of a file that was replaced is kept; a new one has what the umask
  // leaves.
  absl::Status Commit();

 private:
  explicit OutputFile(std::string path) : path_(std::move(path)) {}
  absl::Status OpenInPlace();
  absl::Status OpenTemporary();
  absl::Status SetMode();
  absl::Status Error(const char* what) const;

  std::string path_;       // as the user wrote it
  std::string target_;     // with links of its last part followed; empty: written in place
  std::string temporary_;  // beside target_
  bool exists_ = false;
  struct stat old_ {};  // of what is replaced, if exists_
  int fd_ = -1;
};

// All of a file at once. Errors as above.
absl::Status WriteFile(const std::string& path, const std::string& bytes);

// INVALID_ARGUMENT, as wrong usage, if one of `written` is a regular file that is among `read`, or
// is there twice, whatever the names; empty ones and "-" are none. A file that is not there yet is
// known by its name alone.
absl::Status CheckApart(const std::vector<std::string>& written,
                        const std::vector<std::string>& read);

}  // namespace kvtier::cli
