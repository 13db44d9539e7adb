#include "tiering/block/block_store.h"

#include <algorithm>

#include "tiering/base/check.h"

namespace kvtier {

BlockStore::BlockStore(uint32_t planes, BlockRoom* room) : planes_(planes), room_(room) {
  // Numbers of groups are below the number of blocks.
  KVTIER_CHECK(planes > 0 && room->blocks_max < kNone);
  while ((planes_ << (shift_ + 1)) <= kPageBlocks) ++shift_;
  mask_ = (1u << shift_) - 1;
}

uint32_t BlockStore::Add() {
  if (with_room_ == kNone && !AddPage()) return kNone;
  const uint32_t number = with_room_;
  Page& page = pages_[number];
  if (spare_ == number) spare_ = kNone;
  uint32_t group = page.free;
  if (group == kNone) {
    group = number << shift_ | page.fresh++;
  } else {
    page.free = static_cast<uint32_t>(At(group)->checksum);
    std::fill_n(At(group), planes_, Block{});
  }
  if (++page.live > mask_) Unlink(number);
  return group;
}

void BlockStore::Remove(uint32_t group) {
  const uint32_t number = group >> shift_;
  Page& page = pages_[number];
  KVTIER_CHECK(page.live > 0);
  if (page.live > mask_) Link(number);
  At(group)->checksum = page.free;
  page.free = group;
  if (--page.live > 0) return;
  ReleaseSpare();
  spare_ = number;
}

void BlockStore::ReleaseSpare() {
  if (spare_ == kNone) return;
  Unlink(spare_);
  ReleasePage(spare_);
  spare_ = kNone;
}

bool BlockStore::AddPage() {
  if (page_blocks() > room_->blocks_max - room_->blocks_allocated) return false;
  uint32_t number = unused_numbers_;
  if (number == kNone) {
    number = static_cast<uint32_t>(pages_.size());
    pages_.emplace_back();
  } else {
    unused_numbers_ = pages_[number].next;
  }
  pages_[number] = Page{};
  pages_[number].blocks = std::make_unique<Block[]>(page_blocks());
  ++allocated_pages_;
  room_->blocks_allocated += page_blocks();
  Link(number);
  return true;
}

void BlockStore::ReleasePage(uint32_t number) {
  pages_[number].blocks.reset();
  pages_[number].next = unused_numbers_;
  unused_numbers_ = number;
  --allocated_pages_;
  room_->blocks_allocated -= page_blocks();
}

void BlockStore::Link(uint32_t number) {
  Page& page = pages_[number];
  page.previous = kNone;
  page.next = with_room_;
  if (with_room_ != kNone) pages_[with_room_].previous = number;
  with_room_ = number;
}

void BlockStore::Unlink(uint32_t number) {
  const Page& page = pages_[number];
  if (page.next != kNone) pages_[page.next].previous = page.previous;
  if (page.previous == kNone) {
    with_room_ = page.next;
  } else {
    pages_[page.previous].next = page.next;
  }
}

Bytes BlockStore::metadata_bytes() const {
  return Bytes(
      static_cast<int64_t>(allocated_blocks() * sizeof(Block) + pages_.capacity() * sizeof(Page)));
}

}  // namespace kvtier
