#include "daemon/byte_streams.h"

#include "absl/strings/str_cat.h"

namespace kvtier {

absl::StatusOr<std::unique_ptr<ByteStreams::Stream>> ByteStreams::Open(
    grpc::ServerContext* context) {
  CancelStalled();
  auto stream = std::make_unique<Stream>(this, context);
  const MutexLock lock(mutex_);
  if (open_.size() >= options_.streams_max) {
    return absl::ResourceExhaustedError(absl::StrCat(
        open_.size(), " byte streams of tenant \"", options_.tenant, "\" are open; the limit is ",
        options_.streams_max, ", of limits.rpc_threads_max"));
  }
  open_.push_back(stream.get());
  return stream;
}

void ByteStreams::CancelStalled() {
  const auto oldest =
      std::chrono::steady_clock::now() - absl::ToChronoNanoseconds(options_.stall_max);
  const MutexLock lock(mutex_);
  for (Stream* stream : open_) {
    if (stream->progress_.load() < oldest) stream->context_->TryCancel();
  }
}

void ByteStreams::Close(Stream* stream) {
  const MutexLock lock(mutex_);
  open_.remove(stream);
}

}  // namespace kvtier
