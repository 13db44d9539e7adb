#include "client/block_streams.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/block_buffers.h"
#include "client/running_checksum.h"

namespace kvtier {
namespace {

// Pieces of this size keep gRPC's buffers small and cost little per byte; multiples of 4 KiB are
// hashed in place.
constexpr uint64_t kPieceBytesMax = 512 << 10;
// What a StoreRequest needs beside its data.
constexpr uint64_t kPieceOverheadBytes = 4096;

// Piece size for a daemon that takes messages of `message_bytes_max` bytes (0: it did not say).
uint64_t PieceBytes(uint64_t message_bytes_max) {
  if (message_bytes_max == 0) return kPieceBytesMax;
  const uint64_t room = message_bytes_max - std::min(message_bytes_max, kPieceOverheadBytes);
  return std::clamp<uint64_t>(room / 4096 * 4096, 4096, kPieceBytesMax);
}

// Sends one block in order. False when the stream broke; its Finish() tells why.
bool SendBlock(grpc::ClientWriter<kvtier::v1::StoreRequest>& stream, const BlockSource& block,
               uint64_t block_bytes, uint64_t piece_bytes, kvtier::v1::StoreRequest& message,
               uint64_t& checksum) {
  message.set_chunk(block.chunk);
  message.set_plane(block.plane);
  BufferCursor cursor(block.pieces);
  RunningChecksum running(block_bytes);
  std::string& data = *message.mutable_data();
  for (uint64_t offset = 0; offset < block_bytes; offset += data.size()) {
    data.resize(std::min(piece_bytes, block_bytes - offset));
    size_t filled = 0;
    cursor.Next(data.size(), [&](const std::byte* from, size_t bytes) {
      std::memcpy(data.data() + filled, from, bytes);
      filled += bytes;
    });
    // Of the copy that is sent: should the caller's memory change meanwhile, the checksum still is
    // that of what is stored.
    running.Add(reinterpret_cast<const std::byte*>(data.data()), data.size());
    message.set_offset(offset);
    if (!stream.Write(message)) return false;
  }
  checksum = running.Finish();
  return true;
}

// Fetch takes ranges of chunks with one list of planes; a request of the library is any list of
// blocks.
struct FetchRange {
  uint32_t first_chunk = 0;
  uint32_t chunk_count = 0;
  std::vector<uint32_t> planes;
};

using BlockName = std::pair<uint32_t, uint32_t>;  // chunk, plane

std::vector<FetchRange> RangesOf(absl::Span<const BlockDestination> blocks) {
  std::map<uint32_t, std::vector<uint32_t>> planes_by_chunk;
  for (const BlockDestination& block : blocks) planes_by_chunk[block.chunk].push_back(block.plane);
  std::vector<FetchRange> ranges;
  for (auto& [chunk, planes] : planes_by_chunk) {
    std::sort(planes.begin(), planes.end());
    if (!ranges.empty() && ranges.back().first_chunk + ranges.back().chunk_count == chunk &&
        ranges.back().planes == planes) {
      ++ranges.back().chunk_count;
    } else {
      ranges.push_back({chunk, 1, std::move(planes)});
    }
  }
  return ranges;
}

// Takes the pieces of one block as they arrive.
class BlockReceiver {
 public:
  BlockReceiver(const BlockDestination& block, uint64_t block_bytes)
      : block_(&block), block_bytes_(block_bytes), cursor_(block.pieces), checksum_(block_bytes) {}

  // True when `reply` ends the block; `result` is filled then.
  bool Take(const kvtier::v1::FetchReply& reply, BlockResult& result) {
    if (reply.code() != 0) {
      return End(result, absl::Status(static_cast<absl::StatusCode>(reply.code()), reply.error()));
    }
    const std::string& data = reply.data();
    if (reply.offset() != received_ || data.size() > block_bytes_ - received_) {
      return End(result,
                 Wrong(absl::StrFormat("%u bytes arrived for offset %u, %u were expected there",
                                       data.size(), reply.offset(), block_bytes_ - received_)));
    }
    const auto* from = reinterpret_cast<const std::byte*>(data.data());
    checksum_.Add(from, data.size());
    cursor_.Next(data.size(), [&](std::byte* to, size_t bytes) {
      std::memcpy(to, from, bytes);
      from += bytes;
    });
    received_ += data.size();
    if (!reply.last()) return false;
    result.pool = reply.pool();
    if (received_ != block_bytes_) return End(result, Incomplete());
    const uint64_t checksum = checksum_.Finish();
    if (checksum != reply.checksum()) {
      return End(result, Wrong(absl::StrFormat("checksum %016x of what arrived is not %016x",
                                               checksum, reply.checksum())));
    }
    return End(result, absl::OkStatus());
  }

  absl::Status Incomplete() const {
    return Wrong(absl::StrFormat("only %u of %u bytes arrived", received_, block_bytes_));
  }

 private:
  absl::Status Wrong(const std::string& what) const {
    return absl::DataLossError(
        absl::StrCat("chunk ", block_->chunk, " plane ", block_->plane, ": ", what));
  }
  static bool End(BlockResult& result, absl::Status status) {
    result.status = std::move(status);
    return true;
  }

  const BlockDestination* block_;
  uint64_t block_bytes_;
  BufferCursor<MutableBuffer> cursor_;
  RunningChecksum checksum_;
  uint64_t received_ = 0;
};

absl::Status IndexDestinations(const LeaseRecord& lease, absl::Span<const BlockDestination> blocks,
                               absl::flat_hash_map<BlockName, size_t>& index) {
  for (size_t i = 0; i < blocks.size(); ++i) {
    const BlockDestination& block = blocks[i];
    if (block.chunk >= lease.chunk_count) {
      return absl::InvalidArgumentError(
          absl::StrCat("chunk ", block.chunk, ": the lease has ", lease.chunk_count, " chunks"));
    }
    absl::Status status =
        CheckBuffers(*lease.model->geometry(), block.chunk, block.plane, block.pieces);
    if (!status.ok()) return status;
    if (!index.emplace(BlockName{block.chunk, block.plane}, i).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("chunk ", block.chunk, " plane ", block.plane, " is named twice"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status StoreBlocks(ReservationRecord& reservation, absl::Span<const BlockSource> blocks,
                         absl::Duration timeout) {
  const ReservationRecord::Terms& terms = reservation.terms();
  const ModelGeometry& geometry = *terms.model->geometry();
  for (const BlockSource& block : blocks) {
    absl::Status status = reservation.CheckBlock(block.chunk, block.plane);
    if (status.ok()) status = CheckBuffers(geometry, block.chunk, block.plane, block.pieces);
    if (!status.ok()) return status;
  }
  if (blocks.empty()) return absl::OkStatus();

  DaemonLink& link = *terms.link;
  const uint64_t piece_bytes = PieceBytes(link.session().message_bytes_max);
  DaemonLink::Call call(terms.link, timeout);
  kvtier::v1::StoreReply reply;
  const auto stream = link.bulk().Store(call.context(), &reply);
  kvtier::v1::StoreRequest message;
  message.set_session_id(link.session().id);
  message.set_reservation_id(terms.daemon_id);
  std::vector<uint64_t> checksums(blocks.size());
  uint64_t sent_bytes = 0;
  bool open = true;
  for (size_t i = 0; open && i < blocks.size(); ++i) {
    const uint64_t block_bytes = geometry.planes[blocks[i].plane].bytes_per_chunk;
    open = SendBlock(*stream, blocks[i], block_bytes, piece_bytes, message, checksums[i]);
    sent_bytes += block_bytes;
  }
  stream->WritesDone();
  absl::Status status = call.Finish(stream->Finish());
  if (!status.ok()) return status;
  if (!open || reply.stored_bytes() != sent_bytes) {
    return absl::InternalError(absl::StrCat("kvtierd stored ", reply.stored_bytes(), " of ",
                                            sent_bytes, " bytes without an error"));
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    reservation.SetChecksum(blocks[i].chunk, blocks[i].plane, checksums[i]);
  }
  return absl::OkStatus();
}

absl::Status CheckDestinations(const LeaseRecord& lease,
                               absl::Span<const BlockDestination> blocks) {
  absl::flat_hash_map<BlockName, size_t> index;
  index.reserve(blocks.size());
  return IndexDestinations(lease, blocks, index);
}

absl::StatusOr<GetResult> FetchBlocks(const LeaseRecord& lease,
                                      absl::Span<const BlockDestination> blocks,
                                      absl::Duration timeout) {
  absl::flat_hash_map<BlockName, size_t> index;
  index.reserve(blocks.size());
  absl::Status status = IndexDestinations(lease, blocks, index);
  if (!status.ok()) return status;

  GetResult result;
  result.blocks.resize(blocks.size());
  for (size_t i = 0; i < blocks.size(); ++i) {
    result.blocks[i].status = absl::NotFoundError(
        absl::StrCat("chunk ", blocks[i].chunk, " plane ", blocks[i].plane, " is not stored"));
  }
  const ModelGeometry& geometry = *lease.model->geometry();
  const absl::Time deadline = absl::Now() + timeout;
  kvtier::v1::FetchRequest request;
  request.set_session_id(lease.link->session().id);
  request.set_lease_id(lease.daemon_id);
  kvtier::v1::FetchReply reply;
  std::vector<bool> ended(blocks.size(), false);
  for (const FetchRange& range : RangesOf(blocks)) {
    request.set_first_chunk(range.first_chunk);
    request.set_chunk_count(range.chunk_count);
    request.mutable_planes()->Assign(range.planes.begin(), range.planes.end());
    DaemonLink::Call call(lease.link, deadline - absl::Now());
    const auto stream = lease.link->bulk().Fetch(call.context(), request);
    std::optional<BlockReceiver> receiver;
    size_t current = 0;
    while (stream->Read(&reply)) {
      lease.link->NoteSignOfLife();
      const auto found = index.find({reply.chunk(), reply.plane()});
      // Blocks come one after the other; what was not asked for, or comes again, is not written
      // anywhere.
      if (found == index.end() || ended[found->second]) continue;
      if (!receiver.has_value() || current != found->second) {
        current = found->second;
        receiver.emplace(blocks[current], geometry.planes[blocks[current].plane].bytes_per_chunk);
      }
      if (!receiver->Take(reply, result.blocks[current])) continue;
      ended[current] = true;
      if (result.blocks[current].status.ok()) {
        result.bytes_by_pool[result.blocks[current].pool] +=
            geometry.planes[blocks[current].plane].bytes_per_chunk;
      }
    }
    status = call.Finish(stream->Finish());
    if (!status.ok()) return status;
    if (receiver.has_value() && !ended[current]) {
      result.blocks[current].status = receiver->Incomplete();
    }
  }
  result.all_ok = std::all_of(result.blocks.begin(), result.blocks.end(),
                              [](const BlockResult& block) { return block.status.ok(); });
  return result;
}

}  // namespace kvtier
