// Watch(): the daemon's events, read on the caller's thread until somebody ends it.
#include <algorithm>
#include <functional>
#include <mutex>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/client_core.h"

namespace kvtier {
namespace {

namespace v1 = kvtier::v1;

Key KeyOf(const std::string& bytes) {
  Key key{};
  if (bytes.size() == key.size()) std::copy(bytes.begin(), bytes.end(), key.begin());
  return key;
}

}  // namespace

void WatchStop::Stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  if (cancel_) cancel_();
}
bool WatchStop::Begin(std::function<void()> cancel) {
  const std::lock_guard lock(mutex_);
  if (stopped_) return false;  // what `cancel` would cancel ends now
  cancel_ = std::move(cancel);
  return true;
}
bool WatchStop::End() {
  const std::lock_guard lock(mutex_);
  cancel_ = nullptr;
  return stopped_;
}

absl::Status ClientCore::ReadEvents(const LinkPointer& link, uint64_t after_sequence,
                                    const std::function<bool(const WatchEvent&)>& on_event,
                                    WatchStop* stop) {
  DaemonLink::Call call(link, absl::InfiniteDuration());
  if (stop == nullptr) return ReadEvents(*link, call, after_sequence, on_event);
  if (!stop->Begin([&call] { call.context()->TryCancel(); })) return absl::OkStatus();
  absl::Status status = ReadEvents(*link, call, after_sequence, on_event);
  return stop->End() ? absl::OkStatus() : status;
}

absl::Status ClientCore::ReadEvents(DaemonLink& link, DaemonLink::Call& call,
                                    uint64_t after_sequence,
                                    const std::function<bool(const WatchEvent&)>& on_event) {
  v1::WatchRequest message;
  message.set_session_id(link.session().id);
  message.set_after_sequence(after_sequence);
  message.set_all_models(true);
  const auto stream = link.control().Watch(call.context(), message);
  v1::WatchReply reply;
  while (stream->Read(&reply)) {
    link.NoteSignOfLife();
    WatchEvent event;
    event.sequence = reply.sequence();
    event.kind = static_cast<WatchEvent::Kind>(reply.kind());
    event.key = KeyOf(reply.key());
    event.plane = reply.plane();
    event.pool = reply.pool();
    if (on_event(event)) continue;
    call.context()->TryCancel();
    (void)stream->Finish();
    return absl::OkStatus();
  }
  absl::Status status = call.Finish(stream->Finish());
  if (!status.ok()) return status;
  // A stream that ended well without being asked to: the daemon is going.
  return absl::UnavailableError(absl::StrCat("kvtierd at ", link.socket(), " ended the events"));
}

}  // namespace kvtier
