// kvtier._kvtier: what kvtier's Python code is made of. Its documentation is in kvtier/*.py, its
// types in kvtier/_kvtier.pyi.
#include <pybind11/pybind11.h>

#include <string>

#include "client/python/bindings/conversions.h"
#include "client/python/bindings/process_guard.h"
#include "client/python/bindings/raw_client.h"
#include "client/python/bindings/read_section.h"
#include "client/python/bindings/watch_stream.h"
#include "kvtier/client.h"

namespace py = pybind11;

namespace kvtier::python {
namespace {

void BindModel(py::module_& module) {
  py::class_<Model>(module, "Model")
      .def("chunk_key",
           [](const Model& model, py::handle parent, py::handle tokens, const py::bytes& extra) {
             const Call running;
             return BytesOf(
                 model.ChunkKey(KeyFrom(parent, "parent"), TokensFrom(tokens), std::string(extra)));
           })
      .def("opaque_key",
           [](const Model& model, py::handle parent, const py::bytes& engine_key,
              const py::bytes& extra) {
             const Call running;
             return BytesOf(model.OpaqueKey(KeyFrom(parent, "parent"), std::string(engine_key),
                                            std::string(extra)));
           })
      .def("prefix_keys", [](const Model& model, py::handle tokens, const py::bytes& extra) {
        const Call running;
        const std::vector<uint32_t> wanted = TokensFrom(tokens);
        const std::string more = extra;
        std::vector<Key> keys;
        {
          const ReleasedGil released;
          keys = model.PrefixKeys(wanted, more);
        }
        return ListOf(keys);
      });
}

void BindClient(py::module_& module) {
  py::class_<RawClient>(module, "Client")
      .def(py::init<const std::string&, const std::string&, double, double, uint32_t, bool, int,
                    int, uint32_t>())
      .def("close", &RawClient::Close)
      .def("register_model", &RawClient::RegisterModel)
      .def("reserve", &RawClient::Reserve)
      .def("put", &RawClient::Put)
      .def("commit", &RawClient::Commit)
      .def("abort", &RawClient::Abort)
      .def("lookup", &RawClient::Lookup)
      .def("get", &RawClient::Get)
      .def("renew", &RawClient::Renew)
      .def("release", &RawClient::Release)
      .def("report", &RawClient::Report)
      .def("prefetch", &RawClient::Prefetch)
      .def("forget", &RawClient::Forget)
      .def("watch", &RawClient::Watch)
      .def("enter_section", &RawClient::EnterSection)
      .def("submit_reserve", &RawClient::SubmitReserve)
      .def("submit_put", &RawClient::SubmitPut)
      .def("submit_commit", &RawClient::SubmitCommit)
      .def("submit_lookup", &RawClient::SubmitLookup)
      .def("submit_get", &RawClient::SubmitGet)
      .def("poll", &RawClient::Poll)
      .def("wait", &RawClient::Wait)
      .def("wait_attached", &RawClient::WaitAttached)
      .def_property_readonly("closed", &RawClient::closed)
      .def_property_readonly("event_fd", &RawClient::event_fd)
      .def_property_readonly("attached", &RawClient::attached)
      .def_property_readonly("daemon_epoch", &RawClient::daemon_epoch)
      .def_property_readonly("tenant", &RawClient::tenant)
      .def_property_readonly("transport", &RawClient::transport)
      .def_property_readonly("transport_note", &RawClient::transport_note);
}

}  // namespace

PYBIND11_MODULE(_kvtier, module) {
  module.doc() = "The C++ client of kvtier; use the package kvtier, which is made of it.";
  module.attr("__version__") = KVTIER_VERSION;
  module.def("default_socket_path", &DefaultSocketPath);
  BindModel(module);
  py::class_<WatchStream, std::shared_ptr<WatchStream>>(module, "WatchStream")
      .def("next", &WatchStream::Next)
      .def("close", &WatchStream::Close);
  BindSections(module);
  BindClient(module);
  // Before anything is torn down: clients have threads, and so may their users.
  py::module_::import("atexit").attr("register")(
      py::cpp_function([] { EndCalls(&RawClient::CloseAll); }));
}

}  // namespace kvtier::python
