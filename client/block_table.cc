#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "client/block_finder.h"
#include "client/client_core.h"
#include "client/section_places.h"
#include "client/touches.h"
#include "kvtier/read_section.h"
#include "proto/wire/relocation_log.h"

namespace kvtier {

struct BlockTableState {
  const TenantMemory* memory = nullptr;  // that the words are of; compared, not used
  std::weak_ptr<LeaseRecord> lease;      // does not keep the memory of a daemon that is gone
  std::optional<wire::RelocationReader> log;
  uint64_t unmaps = 0;
  std::vector<wire::ResidencyWord> words;           // by view
  std::vector<bool> second;                         // by view: that copy is not the best one
  absl::flat_hash_map<uint64_t, uint32_t> chunks;   // by row
  absl::flat_hash_map<uint32_t, uint32_t> indexes;  // by plane
  size_t others = 0;                                // views without an address, or of such a copy
  std::vector<size_t> changed;                      // views to look at
};

BlockTable::BlockTable(LeaseHandle lease, std::vector<uint32_t> planes)
    : lease_(lease), planes_(std::move(planes)), state_(std::make_unique<BlockTableState>()) {}
BlockTable::BlockTable(BlockTable&&) noexcept = default;
BlockTable& BlockTable::operator=(BlockTable&&) noexcept = default;
BlockTable::~BlockTable() = default;

absl::Status BlockTable::Begin(const LeaseRecord& lease) {
  const size_t plane_count = lease.model->geometry()->planes.size();
  if (planes_.empty()) {
    planes_.resize(plane_count);
    std::iota(planes_.begin(), planes_.end(), 0);
  }
  for (uint32_t i = 0; i < planes_.size(); ++i) {
    if (planes_[i] >= plane_count || !state_->indexes.emplace(planes_[i], i).second) {
      state_->indexes.clear();
      return absl::InvalidArgumentError(
          absl::StrCat("plane ", planes_[i], " of a block table: it is named twice, or the model ",
                       "has only ", plane_count));
    }
  }
  for (uint32_t chunk = 0; chunk < lease.rows.size(); ++chunk) {
    if (lease.rows[chunk] != 0) state_->chunks.emplace(lease.rows[chunk], chunk);
  }
  views_.resize(size_t{lease.chunk_count} * planes_.size());
  missing_ = state_->others = views_.size();
  state_->words.resize(views_.size());
  state_->second.resize(views_.size());
  return absl::OkStatus();
}

absl::StatusOr<size_t> BlockTable::Update(ReadSection& section) {
  auto record = section.LeaseOf(lease_);
  if (!record.ok()) return record.status();
  const LeaseRecord& lease = **record;
  TenantMemory* const memory = section.place_->memory;
  BlockTableState& state = *state_;
  const bool first = state.memory == nullptr;
  if (first) {
    if (absl::Status status = Begin(lease); !status.ok()) return status;
    state.lease = *record;
  } else if (state.lease.lock() != *record) {
    return absl::FailedPreconditionError(
        absl::StrCat("the block table is of another client's lease than lease ", lease_));
  }
  // After the section was entered: what is unmapped later stays until it ends.
  const uint64_t unmaps = memory->segments().unmaps();
  bool all = first || state.memory != memory || state.unmaps != unmaps ||
             section.core_->options().verify == Verify::kAlways;
  state.changed.clear();
  if (!all) {
    all = !state.log->Read([&](const wire::Relocation& relocation) {
      const auto chunk = state.chunks.find(relocation.row);
      const auto index = state.indexes.find(relocation.plane);
      if (chunk == state.chunks.end() || index == state.indexes.end()) return;
      state.changed.push_back(size_t{chunk->second} * planes_.size() + index->second);
    });
    // What had no address may have one now, without having moved; and a second copy goes without
    // a word in the log.
    for (size_t i = 0; state.others > 0 && i < views_.size(); ++i) {
      if (views_[i].data == nullptr || state.second[i]) state.changed.push_back(i);
    }
    std::sort(state.changed.begin(), state.changed.end());
    state.changed.erase(std::unique(state.changed.begin(), state.changed.end()),
                        state.changed.end());
  }
  if (all) {
    // The log's end before the words are looked up: what moves in between is in both.
    state.log = memory->index().NewRelocationReader();
    state.changed.resize(views_.size());
    std::iota(state.changed.begin(), state.changed.end(), size_t{0});
  }
  const size_t moved = Resolve(section, lease);
  state.memory = memory;
  state.unmaps = unmaps;
  if (section.place_->reported) {
    Touches touches(*section.place_);
    for (const uint64_t row : lease.rows) {
      if (!touches.Add(row)) break;
    }
  }
  return first ? 0 : moved;
}

size_t BlockTable::Resolve(ReadSection& section, const LeaseRecord& lease) {
  BlockTableState& state = *state_;
  const std::vector<PlaneGeometry>& planes = lease.model->geometry()->planes;
  TenantMemory* const memory = section.place_->memory;
  const auto complain = [&](uint64_t row, uint32_t plane, wire::ResidencyWord word) {
    section.core_->Complain(*memory, row, plane, word);
  };
  BlockFinder finder(memory, section.core_->options().verify, complain);
  size_t moved = 0;
  finder.FindAll(
      state.changed.size(),
      [&](size_t i) {
        const size_t chunk = state.changed[i] / planes_.size();
        const uint32_t plane = planes_[state.changed[i] % planes_.size()];
        return WantedBlock{lease.rows.empty() ? 0 : lease.rows[chunk], plane,
                           planes[plane].bytes_per_chunk};
      },
      [&](size_t i, const FoundBlock& found) {
        const size_t at = state.changed[i];
        const bool was_there = state.words[at].valid();
        state.others -= views_[at].data == nullptr || state.second[at] ? 1 : 0;
        state.others += found.view.data == nullptr || !found.best ? 1 : 0;
        missing_ -= views_[at].data == nullptr ? 1 : 0;
        missing_ += found.view.data == nullptr ? 1 : 0;
        state.second[at] = !found.best;
        if (was_there && found.word.valid() && !(found.word == state.words[at])) ++moved;
        if (found.word.valid()) state.words[at] = found.word;
        views_[at] = found.view;
      });
  return moved;
}

}  // namespace kvtier
