#include "tests/unit/client/fake_daemon.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"
#include "proto/wire/checksum.h"
#include "tiering/base/check.h"

namespace kvtier::testing {
namespace {

grpc::Status NotFound(const char* what) { return {grpc::StatusCode::NOT_FOUND, what}; }

uint64_t ChecksumOf(const std::string& bytes) {
  return wire::BlockChecksum(
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()));
}

}  // namespace

void FakeDaemon::Start() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = false;
    ++epoch_;
    // Ids start again, as in a new process: the client must not mistake old handles for new ones.
    next_id_ = 1;
    models_.clear();
    reservations_.clear();
    chunks_.clear();
    leases_.clear();
  }
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + socket_, grpc::InsecureServerCredentials());
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  KVTIER_CHECK(server_ != nullptr);
}

void FakeDaemon::Stop() {
  if (server_ == nullptr) return;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_ = nullptr;
  std::filesystem::remove(socket_);
}

void FakeDaemon::set_behaviour(Behaviour behaviour) {
  absl::MutexLock lock(&mutex_);
  behaviour_ = behaviour;
}
void FakeDaemon::SetSilent(bool silent) {
  absl::MutexLock lock(&mutex_);
  behaviour_.silent = silent;
}
int FakeDaemon::attached() const {
  absl::MutexLock lock(&mutex_);
  return attached_;
}
int FakeDaemon::registered_models() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(models_.size());
}
int64_t FakeDaemon::attach_pid() const {
  absl::MutexLock lock(&mutex_);
  return attach_pid_;
}
uint64_t FakeDaemon::largest_piece_bytes() const {
  absl::MutexLock lock(&mutex_);
  return largest_piece_bytes_;
}
void FakeDaemon::AwaitSilentCalls(int count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [&]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return silent_calls_ >= count; };
  KVTIER_CHECK(mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(20)));
}

void FakeDaemon::Enter() {
  absl::MutexLock lock(&mutex_);
  const auto answers = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !behaviour_.silent || stopping_;
  };
  ++silent_calls_;
  mutex_.Await(absl::Condition(&answers));
  --silent_calls_;
}

grpc::Status FakeDaemon::Attach(Context*, const v1::AttachRequest* request,
                                v1::AttachReply* reply) {
  Enter();
  absl::MutexLock lock(&mutex_);
  if (behaviour_.version_major != request->version().major()) {
    return {grpc::StatusCode::FAILED_PRECONDITION,
            absl::StrCat("the daemon speaks version ", behaviour_.version_major,
                         ".0, the client speaks ", request->version().major(), ".",
                         request->version().minor())};
  }
  ++attached_;
  attach_pid_ = request->pid();
  behaviour_.forget_sessions = false;
  reply->mutable_version()->set_major(1);
  reply->set_session_id(next_id_++);
  reply->set_daemon_epoch(1000 + epoch_);
  reply->set_heartbeat_interval_ms(10'000);
  reply->set_session_timeout_ms(30'000);
  reply->set_tenant("default");
  reply->set_tenant_salt(absl::StrCat("salt", epoch_));
  reply->set_message_bytes_max(behaviour_.message_bytes_max);
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::Heartbeat(Context*, const v1::HeartbeatRequest*,
                                   v1::HeartbeatReply* reply) {
  Enter();
  absl::MutexLock lock(&mutex_);
  if (behaviour_.forget_sessions) return NotFound("no such session");
  reply->set_draining(behaviour_.draining);
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::Detach(Context*, const v1::DetachRequest*, v1::DetachReply*) {
  Enter();
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::RegisterModel(Context*, const v1::RegisterModelRequest* request,
                                       v1::RegisterModelReply* reply) {
  Enter();
  absl::MutexLock lock(&mutex_);
  const auto [model, added] = models_.emplace(request->model().SerializeAsString(), models_.size());
  reply->set_model_id(model->second);
  reply->set_fingerprint(std::string(32, 'f'));
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::Reserve(Context*, const v1::ReserveRequest* request,
                                 v1::ReserveReply* reply) {
  Enter();
  absl::MutexLock lock(&mutex_);
  if (behaviour_.draining) return {grpc::StatusCode::UNAVAILABLE, "draining"};
  if (request->model_id() >= models_.size()) return NotFound("no such model");
  reply->set_reservation_id(next_id_);
  reservations_[next_id_++].chunk_count = request->chunk_count();
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::Store(Context*, grpc::ServerReader<v1::StoreRequest>* reader,
                               v1::StoreReply* reply) {
  Enter();
  v1::StoreRequest piece;
  uint64_t stored = 0;
  while (reader->Read(&piece)) {
    absl::MutexLock lock(&mutex_);
    const auto reservation = reservations_.find(piece.reservation_id());
    if (reservation == reservations_.end()) return NotFound("no such reservation");
    std::string& block = reservation->second.blocks[{piece.chunk(), piece.plane()}];
    block.resize(std::max<size_t>(block.size(), piece.offset() + piece.data().size()));
    block.replace(piece.offset(), piece.data().size(), piece.data());
    stored += piece.data().size();
    largest_piece_bytes_ = std::max<uint64_t>(largest_piece_bytes_, piece.ByteSizeLong());
  }
  reply->set_stored_bytes(stored);
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::Commit(Context*, const v1::CommitRequest* request,
                                v1::CommitReply* reply) {
  Enter();
  absl::MutexLock lock(&mutex_);
  const auto reservation = reservations_.find(request->reservation_id());
  if (reservation == reservations_.end()) return NotFound("no such reservation");
  for (const v1::CommitChunk& commit : request->chunks()) {
    auto* out = reply->add_chunks();
    if (chunks_.count(commit.name().key()) != 0) {
      out->set_outcome(v1::CommitReply::ALREADY_EXISTS);
      continue;
    }
    Chunk chunk;
    int plane_number = 0;
    for (const auto& [name, bytes] : reservation->second.blocks) {
      if (name.first != commit.chunk()) continue;
      if (ChecksumOf(bytes) != commit.checksums(plane_number++)) {
        out->set_outcome(v1::CommitReply::FAILED);
        out->set_code(grpc::StatusCode::DATA_LOSS);
        out->set_error("checksum mismatch");
        return grpc::Status::OK;
      }
      chunk.planes[name.second] = bytes;
      chunk.checksums[name.second] = ChecksumOf(bytes);
    }
    chunks_[commit.name().key()] = std::move(chunk);
    out->set_outcome(v1::CommitReply::COMMITTED);
  }
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::Lookup(Context*, const v1::LookupRequest* request,
                                v1::LookupReply* reply) {
  Enter();
  absl::MutexLock lock(&mutex_);
  std::vector<std::string> matched;
  for (size_t at = 0; at + 16 <= request->keys().size(); at += 16) {
    std::string key = request->keys().substr(at, 16);
    if (chunks_.count(key) == 0) break;
    matched.push_back(std::move(key));
  }
  reply->set_matched(static_cast<uint32_t>(matched.size()));
  if (request->lease() && !matched.empty()) {
    reply->set_lease_id(next_id_);
    reply->set_lease_ttl_ms(60'000);
    leases_[next_id_++] = std::move(matched);
  }
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::Release(Context*, const v1::ReleaseRequest* request,
                                 v1::ReleaseReply* reply) {
  Enter();
  absl::MutexLock lock(&mutex_);
  for (const uint64_t lease : request->lease_ids()) {
    reply->set_released(reply->released() + static_cast<uint32_t>(leases_.erase(lease)));
  }
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::Fetch(Context*, const v1::FetchRequest* request,
                               grpc::ServerWriter<v1::FetchReply>* writer) {
  Enter();
  absl::MutexLock lock(&mutex_);
  const auto lease = leases_.find(request->lease_id());
  if (lease == leases_.end()) return NotFound("no such lease");
  for (uint32_t i = 0; i < request->chunk_count(); ++i) {
    const uint32_t chunk = request->first_chunk() + i;
    const Chunk& stored = chunks_[lease->second[chunk]];
    for (const uint32_t plane : request->planes()) {
      v1::FetchReply reply;
      reply.set_chunk(chunk);
      reply.set_plane(plane);
      const auto bytes = stored.planes.find(plane);
      if (bytes == stored.planes.end()) {
        reply.set_code(grpc::StatusCode::NOT_FOUND);
        reply.set_error("no such plane");
        writer->Write(reply);
        continue;
      }
      // Pieces of an odd size: the client may not count on 4 KiB.
      constexpr size_t kPiece = 5000;
      std::string data = bytes->second;
      if (behaviour_.flip_fetched_bit && chunk == 1) data[data.size() / 2] ^= 1;
      for (size_t offset = 0; offset < data.size(); offset += kPiece) {
        reply.set_offset(offset);
        reply.set_data(data.substr(offset, kPiece));
        if (offset + kPiece >= data.size()) {
          reply.set_last(true);
          reply.set_checksum(stored.checksums.at(plane));
          reply.set_pool("dram:0");
        }
        writer->Write(reply);
      }
    }
  }
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::Watch(Context*, const v1::WatchRequest* request,
                               grpc::ServerWriter<v1::WatchReply>* writer) {
  for (uint64_t sequence = request->after_sequence() + 1; sequence <= 5; ++sequence) {
    v1::WatchReply event;
    event.set_sequence(sequence);
    event.set_kind(v1::WatchReply::MOVED);
    event.set_key(std::string(16, 'k'));
    event.set_pool("hbm:0");
    writer->Write(event);
  }
  return grpc::Status::OK;
}

}  // namespace kvtier::testing
