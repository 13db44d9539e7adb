#include "client/block_finder.h"

#include "proto/wire/checksum.h"
#include "proto/wire/section_protocol.h"

namespace kvtier {
namespace {

// A block has two copies; each further try needs one that came meanwhile.
constexpr size_t kTriesMax = 6;

}  // namespace

FoundBlock BlockFinder::Find(const WantedBlock& wanted, Accept accept) {
  FoundBlock found;
  if (wanted.row == 0) return found;
  const wire::IndexReader::Row row = memory_->index().At(wanted.row);
  if (!row || wanted.plane >= row.planes) return found;
  const auto plane = row.plane(wanted.plane);
  absl::StatusCode code = absl::StatusCode::kNotFound;
  std::array<wire::ResidencyWord, kTriesMax> tried;
  for (size_t tries = 0; tries < kTriesMax; ++tries) {
    wire::ResidencyWord word;
    const std::atomic<uint64_t>* place = nullptr;
    for (const std::atomic<uint64_t>* copy : {&plane.best, &plane.second}) {
      const wire::ResidencyWord candidate(wire::ResolveWord(*copy));
      if (!candidate.valid() ||
          std::find(tried.begin(), tried.begin() + tries, candidate) != tried.begin() + tries) {
        continue;
      }
      word = candidate;
      place = copy;
      break;
    }
    if (place == nullptr) break;
    tried[tries] = word;
    const MappedSegment* segment = memory_->segments().Find(word);
    if (segment == nullptr) {
      auto mapped = memory_->segments().Get(word);
      if (!mapped.ok()) {
        if (code != absl::StatusCode::kDataLoss) code = mapped.status().code();
        continue;
      }
      segment = *mapped;
    }
    const std::byte* const data = segment->Address(word, wanted.bytes);
    if (data == nullptr) continue;
    const uint64_t checksum = plane.checksum.load(std::memory_order_acquire);
    if (wire::ReadResolved([&] { return accept(data, checksum); })) {
      found.view = {data, wanted.bytes, segment->pool, absl::StatusCode::kOk};
      found.word = word;
      found.best = place == &plane.best;
      return found;
    }
    // Unless the word is of another block by now, or the same block anew with other bytes.
    if (place->load(std::memory_order_acquire) != word.bits()) continue;
    code = absl::StatusCode::kDataLoss;
    complain_(wanted.row, wanted.plane, word);
  }
  found.view.code = code;
  return found;
}

FoundBlock BlockFinder::FindVerified(const WantedBlock& wanted) {
  if (verify_ == Verify::kOff) {
    return Find(wanted, [](const std::byte*, uint64_t) { return true; });
  }
  const FoundBlock found = Find(wanted, [&wanted](const std::byte* data, uint64_t checksum) {
    return wire::BlockChecksum({data, wanted.bytes}) == checksum;
  });
  if (found.word.valid()) {
    memory_->verified().Insert(VerifiedCopies::HashOf(wanted.row, wanted.plane, found.word));
  }
  return found;
}

}  // namespace kvtier
