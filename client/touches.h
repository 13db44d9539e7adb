// Tells the daemon which rows a section has resolved blocks of.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "client/section_places.h"
#include "client/tenant_memory.h"
#include "proto/wire/report_ring.h"

namespace kvtier {

// Of one call that resolves blocks, within its section. Rows that follow each other are told once,
// and so are calls that begin with the same row: those are one step's layers, read one after the
// other. What does not fit the ring, or meets another thread there, is dropped: these are samples.
class Touches {
 public:
  explicit Touches(SectionPlace& place) : place_(place) {}
  ~Touches() { Flush(); }
  Touches(const Touches&) = delete;
  Touches& operator=(const Touches&) = delete;

  // False when the rest need not be told.
  bool Add(uint64_t row) {
    if (row == 0 || row == last_) return true;
    if (last_ == 0) {
      if (row == place_.first_touched) return false;
      place_.first_touched = row;
    }
    last_ = row;
    reports_[count_++] = {.row = row, .steps = 1, .plane = wire::kAllPlanes, .log_mass = 0};
    if (count_ == reports_.size()) Flush();
    return true;
  }

 private:
  void Flush() {
    if (count_ > 0) place_.memory->Report({reports_.data(), count_}, /*wait=*/false);
    count_ = 0;
  }

  SectionPlace& place_;
  uint64_t last_ = 0;
  size_t count_ = 0;
  std::array<wire::Report, 64> reports_;
};

}  // namespace kvtier
