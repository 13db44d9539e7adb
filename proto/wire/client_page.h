// Layout of the memory that one client and the daemon share for writing: its read sections,
// timeline words and report ring.
//
// To the daemon everything in it is hostile: any word may change at any time to any value. It reads
// each word once, checks what it uses as a number of something, and keeps its own positions.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "proto/wire/section_protocol.h"

namespace kvtier::wire {

// "kvtierpg", little-endian.
inline constexpr uint64_t kClientPageMagic = 0x677072656974766b;

inline constexpr uint32_t kSectionsMax = 256;
inline constexpr uint32_t kTimelineWords = 256;
inline constexpr uint64_t kReportRecords = 8192;

// One reader at a time; a line each, so that readers do not slow each other down. A thread takes
// one by a flag of its own process.
struct alignas(64) SectionSlot {
  std::atomic<uint64_t> section;  // 0, or the retire_epoch at entry; release, the daemon acquires
  std::atomic<uint64_t> end;      // 0, or SectionEnd::Pack; before `section`
};
static_assert(sizeof(SectionSlot) == 64 && offsetof(SectionSlot, end) == 8);

// What a step read, or that blocks were touched. Relaxed: published by `produced`.
struct ReportRecord {
  std::atomic<uint64_t> row;  // PackRow
  // From above: steps (32 bits), plane (16; kAllPlanes), log mass (8, as in ReportRequest), 0 (8).
  std::atomic<uint64_t> read;
};
static_assert(sizeof(ReportRecord) == 16 && offsetof(ReportRecord, read) == 8);
inline constexpr uint16_t kAllPlanes = 0xffff;

constexpr uint64_t PackRead(uint32_t steps, uint16_t plane, uint8_t log_mass) {
  return uint64_t{steps} << 32 | uint64_t{plane} << 16 | uint64_t{log_mass} << 8;
}

struct ClientPage {
  uint64_t magic;
  // A bit for each of `sections`, from the lowest one up: a section was in it once. The daemon
  // looks at those alone, so that a client costs it what it uses. Set before the first section
  // there (EnterSection) and never cleared. Whoever leaves it out has sections that keep nothing,
  // and may read other bytes of its own tenant than it looked for; nobody else is harmed.
  std::array<std::atomic<uint64_t>, kSectionsMax / 64> used;
  uint64_t reserved[3];
  std::array<SectionSlot, kSectionsMax> sections;
  // Values that end sections from outside the process (a GPU kernel's end): they only rise.
  std::array<std::atomic<uint64_t>, kTimelineWords> timeline;
  // Records ever written (release) and taken (release); the client drops and counts beyond
  // kReportRecords between them.
  alignas(64) std::atomic<uint64_t> produced;
  std::atomic<uint64_t> dropped;  // relaxed: a count
  alignas(64) std::atomic<uint64_t> consumed;
  alignas(64) std::array<ReportRecord, kReportRecords> reports;
};
static_assert(offsetof(ClientPage, used) == 8 && offsetof(ClientPage, sections) == 64);
static_assert(offsetof(ClientPage, timeline) == 64 + 256 * 64);
static_assert(offsetof(ClientPage, produced) == 64 + 256 * 64 + 256 * 8);
static_assert(offsetof(ClientPage, consumed) == offsetof(ClientPage, produced) + 64);
static_assert(offsetof(ClientPage, reports) == offsetof(ClientPage, produced) + 128);
static_assert(sizeof(ClientPage) == 64 + 256 * 64 + 256 * 8 + 128 + 8192 * 16);

inline constexpr uint64_t kClientPageBytes = (sizeof(ClientPage) + 4095) / 4096 * 4096;

// Opens a section in a place whose words are 0 and that no other thread takes; LeaveSection of its
// word ends it.
inline uint64_t EnterSection(const std::atomic<uint64_t>& retire_epoch, ClientPage& page,
                             size_t place) {
  return EnterSection(retire_epoch, page.sections[place].section, page.used[place / 64],
                      uint64_t{1} << place % 64);
}

}  // namespace kvtier::wire
