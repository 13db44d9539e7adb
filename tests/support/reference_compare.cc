// What the reference model learns from the engine's events, and where it finds the engine to
// differ.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/support/reference_model.h"
#include "tiering/base/check.h"

namespace kvtier::test_support {

void ReferenceModel::BeginEvents(const Engine& engine) {
  const uint64_t dropped = engine.counters().incomplete_dropped_chunks;
  silent_drops_ |= dropped != incomplete_dropped_;
  incomplete_dropped_ = dropped;
  if (!silent_drops_) return;
  listed_.clear();
  std::set<TenantId> tenants;
  for (const auto& [name, spec] : models_) tenants.insert(name.first);
  for (const TenantId tenant : tenants) {
    uint64_t cursor = 0;
    do {
      for (const ChunkInfo& info : engine.ListChunks(tenant, cursor, 7)) {
        if (!info.hidden) listed_.insert({{tenant, info.model}, info.key});
      }
    } while (cursor != 0);
  }
}

void ReferenceModel::EndEvents(std::optional<TenantId> tenant) {
  Collect(tenant);
  for (bool again = silent_drops_; again;) {
    again = false;
    for (const auto& [id, chunk] : chunks_) {
      if (chunk.forgotten || chunk.was_visible ||
          listed_.contains({{chunk.tenant, chunk.model}, chunk.key})) {
        continue;
      }
      if (chunk.leases > 0 || chunk.pins > 0 || HasChildren(id)) continue;
      if (tenant.has_value() && chunk.tenant != *tenant) continue;
      Remove(id);
      again = true;
      break;
    }
  }
}

std::string ReferenceModel::Compare(const Engine& engine) {
  Collect();
  silent_drops_ = false;
  for (const auto& [name, spec] : models_) {
    const TenantId tenant = name.first;
    if (const std::string wrong = CompareChunks(engine, tenant); !wrong.empty()) {
      return absl::StrCat("tenant ", tenant.value(), ": ", wrong);
    }
  }
  const EngineTotals totals = engine.Totals(std::nullopt);
  const auto differ = [](const char* what, uint64_t theirs, uint64_t ours) {
    return theirs == ours
               ? std::string()
               : absl::StrCat(what, ": the engine has ", theirs, ", the model ", ours, "; ");
  };
  std::string wrong = differ("sessions", totals.sessions, sessions_.size()) +
                      differ("leases", totals.leases, leases_.size()) +
                      differ("reservations", totals.reservations, reservations_.size()) +
                      differ("models", totals.models, models_.size());
  if (totals.moves_in_flight == 0) {
    uint64_t blocks = 0;
    for (const auto& [id, chunk] : chunks_) blocks += chunk.planes.size();
    wrong += differ("chunks", totals.chunks, chunks_.size());
    // Which blocks of forgotten chunks are lost is told to nobody.
    if (totals.blocks > blocks) wrong += differ("blocks", totals.blocks, blocks);
  }
  return wrong;
}

std::string ReferenceModel::CompareChunks(const Engine& engine, TenantId tenant) const {
  std::vector<ChunkInfo> listed;
  uint64_t cursor = 0;
  do {
    std::vector<ChunkInfo> page = engine.ListChunks(tenant, cursor, 5);
    listed.insert(listed.end(), page.begin(), page.end());
  } while (cursor != 0);

  std::map<KeyName, const ChunkInfo*> known;
  std::multiset<KeyName> hidden;
  for (const ChunkInfo& info : listed) {
    const KeyName name{{tenant, info.model}, info.key};
    if (info.hidden) {
      hidden.insert(name);
    } else if (!known.emplace(name, &info).second) {
      return absl::StrCat("chunk ", info.key.ToHex(), " is listed twice");
    }
  }
  const bool moving = engine.Totals(std::nullopt).moves_in_flight > 0;
  for (const auto& entry : chunks_) {
    const uint64_t id = entry.first;
    const RefChunk& chunk = entry.second;
    if (chunk.tenant != tenant) continue;
    const KeyName name{{tenant, chunk.model}, chunk.key};
    const auto wrong = [&chunk](const std::string& what) {
      return absl::StrCat("chunk ", chunk.key.ToHex(), " of model ", chunk.model.value(), what);
    };
    if (chunk.forgotten) {
      const auto found = hidden.find(name);
      if (found == hidden.end())
        return wrong(" is forgotten but held; the engine does not have it");
      hidden.erase(found);
      continue;
    }
    const auto found = known.find(name);
    if (found == known.end()) return wrong(" is gone from the engine");
    const ChunkInfo& info = *found->second;
    known.erase(found);
    const wire::ChunkKey parent =
        chunk.parent == 0 ? wire::ChunkKey{} : chunks_.at(chunk.parent).key;
    if (info.parent_key != parent) return wrong(" has another parent");
    if (info.token_count != chunk.token_count) return wrong(" has another token count");
    if (info.has_children != HasChildren(id) && !moving) return wrong(": has_children differs");
    if ((chunk.leases + chunk.pins == 0) && info.leases > 0)
      return wrong(" is held by nobody, but counted as");
    Bytes bytes;
    for (const uint16_t plane : chunk.planes) {
      bytes += Model(tenant, chunk.model)->planes[plane].bytes_per_chunk;
    }
    if (info.bytes != bytes) {
      return wrong(absl::StrCat(" has ", info.bytes.count(), " bytes, the model ", bytes.count()));
    }
  }
  if (!known.empty())
    return absl::StrCat("chunk ", known.begin()->first.second.ToHex(), " should be gone");
  // A copy under way keeps a forgotten chunk until it completes.
  if (!hidden.empty() && !moving) {
    return absl::StrCat("forgotten chunk ", hidden.begin()->second.ToHex(),
                        " is held by nobody, but still there");
  }
  return {};
}

RefChunk* ReferenceModel::Find(TenantId tenant, ModelId model, const wire::ChunkKey& key) {
  const auto found = by_key_.find({{tenant, model}, key});
  return found == by_key_.end() ? nullptr : &chunks_.at(found->second);
}

const RefChunk* ReferenceModel::Find(TenantId tenant, ModelId model,
                                     const wire::ChunkKey& key) const {
  return const_cast<ReferenceModel*>(this)->Find(tenant, model, key);
}

RefChunk* ReferenceModel::FindForgotten(TenantId tenant, ModelId model, const wire::ChunkKey& key) {
  for (auto& [id, chunk] : chunks_) {
    if (chunk.forgotten && chunk.tenant == tenant && chunk.model == model && chunk.key == key) {
      return &chunk;
    }
  }
  return nullptr;
}

bool ReferenceModel::HasChildren(uint64_t id) const {
  return std::any_of(chunks_.begin(), chunks_.end(),
                     [&](const auto& entry) { return entry.second.parent == id; });
}

void ReferenceModel::Collect(std::optional<TenantId> tenant) {
  for (bool again = true; again;) {
    again = false;
    for (const auto& [id, chunk] : chunks_) {
      if (tenant.has_value() && chunk.tenant != *tenant) continue;
      if (!chunk.forgotten || chunk.leases > 0 || chunk.pins > 0 || HasChildren(id)) continue;
      Remove(id);
      again = true;
      break;
    }
  }
}

void ReferenceModel::Remove(uint64_t id) {
  const RefChunk& chunk = chunks_.at(id);
  if (!chunk.forgotten) by_key_.erase({{chunk.tenant, chunk.model}, chunk.key});
  chunks_.erase(id);
}

}  // namespace kvtier::test_support
