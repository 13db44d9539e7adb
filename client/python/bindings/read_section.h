// Blocks read and written where they lie: sections, and the memory that Python sees of them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "kvtier/client.h"
#include "kvtier/read_section.h"

namespace kvtier::python {

// A read section that outlasts its end for as long as Python objects still use what was found in
// it: numpy arrays hold addresses, and nothing can take those back from them. Shared by the
// section's object and its blocks, which go in any order. What it guards stays mapped as well, so
// blocks that are being written have one, too.
class SectionHold {
 public:
  SectionHold(std::shared_ptr<Client> client, ReadSection section)
      : client_(std::move(client)), section_(std::move(section)) {}
  ~SectionHold();
  SectionHold(const SectionHold&) = delete;
  SectionHold& operator=(const SectionHold&) = delete;

  // Calls use(section), one thread at a time; without the GIL.
  template <typename Use>
  auto With(Use&& use) {
    const std::lock_guard lock(mutex_);
    return use(section_);
  }

  // The rest with the GIL. From End() on, blocks give out no memory any more.
  void End();
  bool ended() const { return ended_; }
  void AddUse() { ++uses_; }
  void RemoveUse();
  size_t uses() const { return uses_; }

 private:
  void LeaveIfUnused();

  std::shared_ptr<Client> client_;  // outlives the section
  std::mutex mutex_;
  ReadSection section_;
  bool ended_ = false;
  size_t uses_ = 0;  // buffers that Python objects have of blocks
};

// The memory of one block, for memoryview() and the like.
class BlockMemory {
 public:
  BlockMemory(std::shared_ptr<SectionHold> hold, void* data, size_t bytes, bool writable)
      : hold_(std::move(hold)), data_(data), bytes_(bytes), writable_(writable) {}

  // The slots of the buffer protocol.
  static int GetBuffer(PyObject* self, Py_buffer* view, int flags);
  static void ReleaseBuffer(PyObject* self, Py_buffer* view);

 private:
  std::shared_ptr<SectionHold> hold_;
  void* data_;
  size_t bytes_;
  bool writable_;
};

// kvtier._kvtier.Section.
class RawSection {
 public:
  // Enters it: kvtier.UnavailableError where no memory is shared with the daemon. With a Call.
  explicit RawSection(std::shared_ptr<Client> client);
  ~RawSection();
  RawSection(const RawSection&) = delete;
  RawSection& operator=(const RawSection&) = delete;

  // [(memory or None, error or None, pool)] of blocks of a lease, each given as (chunk, plane).
  pybind11::list Resolve(LeaseHandle lease, pybind11::handle blocks);
  // The memory of one block of a reservation, to be written; the section only keeps it mapped.
  std::unique_ptr<BlockMemory> Reserved(ReservationHandle reservation, pybind11::handle chunk,
                                        pybind11::handle plane);
  void Leave() { hold_->End(); }
  // Whether the daemon still keeps things in place for it: until Leave(), and then until the last
  // object that uses a block is gone.
  bool open() const { return !hold_->ended() || hold_->uses() != 0; }

 private:
  std::shared_ptr<Client> client_;
  std::shared_ptr<SectionHold> hold_;
};

// The classes of the module.
void BindSections(pybind11::module_& module);

}  // namespace kvtier::python
