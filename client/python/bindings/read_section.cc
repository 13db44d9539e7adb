#include "client/python/bindings/read_section.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/python/bindings/conversions.h"
#include "client/python/bindings/errors.h"
#include "client/python/bindings/process_guard.h"

namespace py = pybind11;

namespace kvtier::python {

SectionHold::~SectionHold() {
  if (!Forked()) return;
  // Neither the client nor what it has mapped is there.
  Leak(section_);
  Leak(client_);
}

void SectionHold::End() {
  ended_ = true;
  LeaveIfUnused();
}

void SectionHold::RemoveUse() {
  --uses_;
  LeaveIfUnused();
}

void SectionHold::LeaveIfUnused() {
  if (!ended_ || uses_ != 0 || Forked()) return;
  With([](ReadSection& section) { section.Leave(); });
}

int BlockMemory::GetBuffer(PyObject* self, Py_buffer* view, int flags) {
  const auto& memory = py::cast<const BlockMemory&>(py::handle(self));
  if (memory.hold_->ended() || Forked()) {
    view->obj = nullptr;
    PyErr_SetString(PyExc_BufferError,
                    "the block's memory is not in use any more: its section has ended");
    return -1;
  }
  const int read_only = memory.writable_ ? 0 : 1;
  if (PyBuffer_FillInfo(view, self, memory.data_, static_cast<Py_ssize_t>(memory.bytes_), read_only,
                        flags) != 0) {
    return -1;
  }
  memory.hold_->AddUse();
  return 0;
}

void BlockMemory::ReleaseBuffer(PyObject* self, Py_buffer* /*view*/) {
  py::cast<const BlockMemory&>(py::handle(self)).hold_->RemoveUse();
}

RawSection::RawSection(std::shared_ptr<Client> client)
    : client_(std::move(client)),
      hold_(std::make_shared<SectionHold>(client_, ValueOrThrow(client_->EnterSection()))) {}

RawSection::~RawSection() {
  hold_->End();
  if (Forked()) Leak(client_);
}

py::list RawSection::Resolve(LeaseHandle lease, py::handle blocks) {
  const Call running;
  if (hold_->ended()) {
    ThrowStatus(absl::FailedPreconditionError("the read section has ended already"));
  }
  std::vector<BlockId> wanted;
  for (const py::handle block : py::iter(blocks)) {
    const auto parts = block.cast<py::tuple>();
    if (parts.size() != 2) throw py::type_error("a block is not a tuple (chunk, plane)");
    wanted.push_back({Uint32(parts[0], "a block's chunk"), Uint32(parts[1], "a block's plane")});
  }
  std::vector<BlockView> views(wanted.size());
  absl::StatusOr<size_t> found = 0;
  {
    const ReleasedGil released;
    found = hold_->With([&](ReadSection& section) {
      return section.Resolve(lease, wanted, absl::MakeSpan(views));
    });
  }
  ThrowIfError(found.status());
  py::list list(views.size());
  for (size_t i = 0; i < views.size(); ++i) {
    const BlockView& view = views[i];
    if (view.data == nullptr) {
      list[i] =
          py::make_tuple(py::none(),
                         ErrorFor(absl::Status(
                             view.code, absl::StrCat("chunk ", wanted[i].chunk, " plane ",
                                                     wanted[i].plane, " cannot be read in place"))),
                         py::str());
      continue;
    }
    // Never written: every buffer of it is read-only.
    void* const data = const_cast<void*>(view.data);
    list[i] = py::make_tuple(std::make_unique<BlockMemory>(hold_, data, view.bytes, false),
                             py::none(), Text(view.pool));
  }
  return list;
}

std::unique_ptr<BlockMemory> RawSection::Reserved(ReservationHandle reservation, py::handle chunk,
                                                  py::handle plane) {
  const Call running;
  const uint32_t wanted_chunk = Uint32(chunk, "chunk");
  const std::vector<uint32_t> wanted_planes{Uint32(plane, "plane")};
  absl::StatusOr<std::vector<MutableBuffer>> buffers;
  {
    const ReleasedGil released;
    buffers = client_->Buffers(reservation, wanted_chunk, wanted_planes);
  }
  const MutableBuffer buffer = ValueOrThrow(std::move(buffers)).front();
  return std::make_unique<BlockMemory>(hold_, buffer.data, buffer.bytes, true);
}

void BindSections(py::module_& module) {
  const py::class_<BlockMemory> block_memory(
      module, "BlockMemory", py::custom_type_setup([](PyHeapTypeObject* type) {
        type->as_buffer.bf_getbuffer = &BlockMemory::GetBuffer;
        type->as_buffer.bf_releasebuffer = &BlockMemory::ReleaseBuffer;
        type->ht_type.tp_as_buffer = &type->as_buffer;
      }));
  py::class_<RawSection>(module, "Section")
      .def("resolve", &RawSection::Resolve)
      .def("reserved", &RawSection::Reserved)
      .def("leave", &RawSection::Leave)
      .def_property_readonly("open", &RawSection::open);
}

}  // namespace kvtier::python
