// The C++ client as the Python package's own code sees it (kvtier._kvtier.Client).
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "client/python/bindings/held_buffers.h"
#include "client/python/bindings/read_section.h"
#include "client/python/bindings/watch_stream.h"
#include "kvtier/client.h"

namespace kvtier::python {

// Every method is called with the GIL, and gives it up while it may wait. Arguments and results are
// as kvtier/_kvtier.pyi says. Errors are the classes of kvtier.errors.
class RawClient {
 public:
  RawClient(const std::string& socket, const std::string& name, double unavailable_after,
            double call_timeout, uint32_t tickets_max, bool lazy, int transport, int verify,
            uint32_t report_every);
  // Closes. In a forked child everything is leaked instead, see Forked().
  ~RawClient();
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  // What is in flight ends with CANCELLED; idempotent, from any thread.
  void Close();
  // Closes every client of this process; for the interpreter's exit.
  static void CloseAll();
  bool closed() const { return closed_; }

  Model RegisterModel(const pybind11::tuple& geometry);
  ReservationHandle Reserve(const Model& model, pybind11::handle parent, pybind11::handle chunks,
                            pybind11::handle planes, int priority, double keep, bool do_not_store);
  void Put(const Model& model, ReservationHandle reservation, pybind11::handle blocks);
  pybind11::object Commit(const Model& model, ReservationHandle reservation,
                          pybind11::handle chunks);
  void Abort(ReservationHandle reservation);
  pybind11::object Lookup(const Model& model, pybind11::handle keys, bool lease, double lease_ttl);
  pybind11::object Get(const Model& model, LeaseHandle lease, pybind11::handle blocks);
  double Renew(LeaseHandle lease, double ttl);
  void Release(LeaseHandle lease);
  void Report(LeaseHandle lease, pybind11::handle reports);
  uint32_t Prefetch(const Model& model, pybind11::handle keys);
  uint32_t Forget(const Model& model, pybind11::handle keys);
  std::shared_ptr<WatchStream> Watch(uint64_t after_sequence);
  std::unique_ptr<RawSection> EnterSection();

  Ticket SubmitReserve(const Model& model, pybind11::handle parent, pybind11::handle chunks,
                       pybind11::handle planes, int priority, double keep, bool do_not_store);
  Ticket SubmitPut(const Model& model, ReservationHandle reservation, pybind11::handle blocks);
  Ticket SubmitCommit(const Model& model, ReservationHandle reservation, pybind11::handle chunks);
  Ticket SubmitLookup(const Model& model, pybind11::handle keys, bool lease, double lease_ttl);
  Ticket SubmitGet(const Model& model, LeaseHandle lease, pybind11::handle blocks);
  // [(ticket, error or None, value)]
  pybind11::list Poll(size_t completions_max);
  pybind11::tuple Wait(Ticket ticket, double timeout);
  int event_fd() const;

  bool attached() const;
  uint64_t daemon_epoch() const;
  std::string tenant() const;
  int transport() const;
  std::string transport_note() const;
  void WaitAttached(double timeout) const;

 private:
  pybind11::tuple Take(Completion completion);

  std::shared_ptr<Client> client_;
  bool closed_ = false;
  // Of tickets in flight or not yet polled. The client writes into them until the completion, so
  // this is not the ticket objects' to hold: those can go at any time.
  std::unordered_map<Ticket, std::unique_ptr<HeldBuffers>> held_;
  std::vector<std::weak_ptr<WatchStream>> streams_;
};

}  // namespace kvtier::python
