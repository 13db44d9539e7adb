#include "tiering/block/block_catalog.h"

#include <algorithm>

#include "tiering/base/check.h"

namespace kvtier {

BlockCatalog::BlockCatalog(uint64_t chunks_max, uint64_t blocks_max, uint64_t index_seed)
    : chunks_max_(chunks_max), room_{.blocks_max = blocks_max}, hash_(index_seed) {
  KVTIER_CHECK(blocks_max <= kBlocksMax);
}

void BlockCatalog::AddModel(ModelLayout layout) {
  models_.push_back(std::make_unique<ModelBlocks>(std::move(layout), &room_));
}

RowIndex BlockCatalog::Find(ModelId model, const wire::ChunkKey& key) const {
  return index_.Find(hash_(key, model.value()), [&](RowIndex row) {
    return rows_[row].key == key && rows_[row].model == model.value();
  });
}

void BlockCatalog::FindAll(ModelId model, absl::Span<const wire::ChunkKey> keys,
                           std::vector<RowIndex>& rows) const {
  // Enough lookups at once to cover memory latency, few enough for the line-fill buffers.
  constexpr size_t kGroup = 16;
  rows.resize(keys.size());
  for (size_t first = 0; first < keys.size(); first += kGroup) {
    const size_t end = std::min(first + kGroup, keys.size());
    for (size_t i = first; i < end; ++i) index_.Prefetch(hash_(keys[i], model.value()));
    for (size_t i = first; i < end; ++i) rows[i] = Find(model, keys[i]);
  }
}

RowIndex BlockCatalog::Create(ModelId model, const wire::ChunkKey& key, RowIndex parent,
                              uint32_t token_count) {
  if (row_count_ >= chunks_max_) return kNoRow;
  ModelBlocks& blocks = *models_[model.value()];
  const uint32_t group = AddBlocks(blocks);
  if (group == BlockStore::kNone) return kNoRow;
  RowIndex row = free_row_;
  if (row == kNoRow) {
    row = static_cast<RowIndex>(rows_.Grow(1));
  } else {
    free_row_ = rows_[row].parent;
  }

  Row& r = rows_[row];
  const uint32_t generation = r.generation + 1;
  r = Row{};
  r.key = key;
  r.parent = parent;
  r.first_child = r.next_sibling = r.prev_sibling = kNoRow;
  r.generation = generation;
  r.token_count = static_cast<uint16_t>(token_count);
  r.model = model.value();
  r.missing_required = blocks.layout.required_count;
  r.flags = kLive;
  r.block = group;
  if (parent != kNoRow) {
    Row& p = rows_[parent];
    r.next_sibling = p.first_child;
    if (p.first_child != kNoRow) rows_[p.first_child].prev_sibling = row;
    p.first_child = row;
  }
  index_.Insert(hash_(key, r.model), row,
                [this](RowIndex other) { return hash_(rows_[other].key, rows_[other].model); });
  ++row_count_;
  ++blocks.row_count;
  if (observer_ != nullptr) observer_->OnCreate(row);
  return row;
}

uint32_t BlockCatalog::AddBlocks(ModelBlocks& model) {
  const uint32_t group = model.blocks.Add();
  if (group != BlockStore::kNone) return group;
  // Empty pages that stores keep are memory as well; they go before anybody is refused.
  for (const auto& other : models_) other->blocks.ReleaseSpare();
  return model.blocks.Add();
}

void BlockCatalog::Unlink(RowIndex row) {
  Row& r = rows_[row];
  if (hidden(row)) return;
  const bool was_seen = Visible(row);
  index_.Erase(hash_(r.key, r.model), row);
  r.flags |= kHidden;
  if (observer_ != nullptr && was_seen) observer_->OnInvisible(row);
}

void BlockCatalog::Remove(RowIndex row) {
  Row& r = rows_[row];
  KVTIER_CHECK(live(row) && Droppable(row));
  const size_t planes = models_[r.model]->layout.plane_bytes.size();
  for (size_t i = 0; i < planes; ++i) {
    KVTIER_CHECK(!models_[r.model]->blocks.At(r.block)[i].best.valid());
  }
  if (observer_ != nullptr) observer_->OnRemove(row);
  if (!hidden(row)) index_.Erase(hash_(r.key, r.model), row);
  if (r.prev_sibling != kNoRow) {
    rows_[r.prev_sibling].next_sibling = r.next_sibling;
  } else if (r.parent != kNoRow) {
    rows_[r.parent].first_child = r.next_sibling;
  }
  if (r.next_sibling != kNoRow) rows_[r.next_sibling].prev_sibling = r.prev_sibling;
  models_[r.model]->blocks.Remove(r.block);
  r.flags = 0;
  r.parent = free_row_;
  free_row_ = row;
  --row_count_;
  --models_[r.model]->row_count;
}

void BlockCatalog::Pin(RowIndex row) {
  ++rows_[row].leases;
  KVTIER_CHECK(rows_[row].leases > 0 && "more pins than a row counts");
}

void BlockCatalog::Unpin(RowIndex row) {
  KVTIER_CHECK(rows_[row].leases > 0);
  --rows_[row].leases;
}

void BlockCatalog::EndMove(RowIndex row) {
  KVTIER_CHECK(rows_[row].moves > 0);
  --rows_[row].moves;
}

void BlockCatalog::SetFirst(RowIndex row, PlaneIndex plane, CopyRef copy, uint64_t checksum) {
  Row& r = rows_[row];
  Block& block = mutable_block(r, plane);
  KVTIER_CHECK(!block.best.valid() && copy.valid());
  block = Block{copy, CopyRef(), checksum};
  ++block_count_;
  ++models_[r.model]->block_count;
  if (models_[r.model]->layout.required[plane.value()]) {
    KVTIER_CHECK(r.missing_required > 0);
    --r.missing_required;
  }
  if (observer_ == nullptr) return;
  observer_->OnCopies(row, plane);
  if (models_[r.model]->layout.required[plane.value()] && Visible(row)) observer_->OnVisible(row);
}

void BlockCatalog::AddCopy(RowIndex row, PlaneIndex plane, CopyRef copy) {
  Block& block = mutable_block(rows_[row], plane);
  KVTIER_CHECK(block.best.valid() && !block.second.valid() && copy.valid());
  block.second = copy;
  if (copy.pool() < block.best.pool()) std::swap(block.best, block.second);
  if (observer_ != nullptr) observer_->OnCopies(row, plane);
}

bool BlockCatalog::RemoveCopy(RowIndex row, PlaneIndex plane, CopyRef copy) {
  Row& r = rows_[row];
  Block& block = mutable_block(r, plane);
  if (!copy.valid()) return false;
  if (block.second != copy) {
    if (block.best != copy) return false;
    block.best = block.second;
  }
  block.second = CopyRef();
  const bool was_seen = Visible(row);
  if (!block.best.valid()) {
    --block_count_;
    --models_[r.model]->block_count;
    if (models_[r.model]->layout.required[plane.value()]) ++r.missing_required;
  }
  if (observer_ == nullptr) return true;
  if (was_seen && !Visible(row)) observer_->OnInvisible(row);
  observer_->OnCopies(row, plane);
  return true;
}

uint64_t BlockCatalog::row_count(TenantId tenant) const {
  uint64_t count = 0;
  for (const auto& model : models_) count += model->layout.tenant == tenant ? model->row_count : 0;
  return count;
}

uint64_t BlockCatalog::block_count(TenantId tenant) const {
  uint64_t count = 0;
  for (const auto& model : models_)
    count += model->layout.tenant == tenant ? model->block_count : 0;
  return count;
}

Bytes BlockCatalog::metadata_bytes() const {
  Bytes total = rows_.metadata_bytes() + index_.metadata_bytes();
  for (const auto& model : models_) {
    total += model->blocks.metadata_bytes();
  }
  return total;
}

void BlockCatalog::CheckInvariants() const {
  uint64_t live_rows = 0, blocks = 0;
  for (RowIndex row = 0; row < row_end(); ++row) {
    if (!live(row)) continue;
    ++live_rows;
    const Row& r = rows_[row];
    KVTIER_CHECK(hidden(row) || Find(ModelId(r.model), r.key) == row);
    if (r.parent != kNoRow) KVTIER_CHECK(live(r.parent));
    for (RowIndex child = r.first_child; child != kNoRow; child = rows_[child].next_sibling) {
      KVTIER_CHECK(live(child) && rows_[child].parent == row);
    }
    const ModelLayout& layout_of = models_[r.model]->layout;
    uint16_t missing = 0;
    for (size_t i = 0; i < layout_of.plane_bytes.size(); ++i) {
      const Block& b = models_[r.model]->blocks.At(r.block)[i];
      KVTIER_CHECK(b.best.valid() || !b.second.valid());
      KVTIER_CHECK(!b.second.valid() || b.best.pool() <= b.second.pool());
      if (b.best.valid()) ++blocks;
      if (layout_of.required[i] && !b.best.valid()) ++missing;
    }
    KVTIER_CHECK(missing == r.missing_required);
  }
  KVTIER_CHECK(live_rows == row_count_ && blocks == block_count_);
  uint64_t allocated = 0;
  for (const auto& model : models_) allocated += model->blocks.allocated_blocks();
  KVTIER_CHECK(allocated == room_.blocks_allocated && allocated <= room_.blocks_max);
}

}  // namespace kvtier
