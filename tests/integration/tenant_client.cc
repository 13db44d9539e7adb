// A client that runs as another user: takes that uid for good, attaches, and does what lines on its
// input say, with one line of answer each:
//   store SEED CHUNKS          "OK n" n chunks committed, or a status
//   read SEED CHUNKS           "n" chunks found and right, or a status
//   keys SEED CHUNKS           the keys, in hex
//   lookup KEY...              "n" chunks matched
//   forget KEY...              "n" chunks forgotten
//   reserve KEY                status of a Reserve after that parent
//   ids                        "SESSION LEASE" of a lease on chain 1, by plain gRPC
//   fetch SESSION LEASE, detach SESSION, release SESSION LEASE    by plain gRPC: status
//   blocks                     "n" chunks that the daemon lists
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kvtier/v1/admin.grpc.pb.h"
#include "kvtier/v1/kv_cache.grpc.pb.h"
#include "proto/wire/version.h"
#include "tests/support/client_blocks.h"
#include "tiering/base/status_macros.h"

namespace kvtier::test_support {
namespace {

std::string Text(const absl::Status& status) { return status.ToString(); }
std::string Text(const grpc::Status& status) {
  return status.ok() ? "OK"
                     : absl::StrCat("code ", status.error_code(), ": ", status.error_message());
}
template <typename T>
std::string Text(const absl::StatusOr<T>& value) {
  return value.ok() ? absl::StrCat(*value) : Text(value.status());
}

class TenantClient {
 public:
  absl::Status Attach(const std::string& socket) {
    ClientOptions options;
    options.socket = socket;
    options.name = "tenant_client";
    options.unavailable_after = absl::Seconds(10);
    KVTIER_ASSIGN_OR_RETURN(client_, Client::Connect(options));
    KVTIER_ASSIGN_OR_RETURN(model_, client_->RegisterModel(UnequalModel()));
    const auto channel = grpc::CreateChannel("unix:" + socket, grpc::InsecureChannelCredentials());
    kv_ = v1::KvCache::NewStub(channel);
    admin_ = v1::Admin::NewStub(channel);
    return absl::OkStatus();
  }
  const Client& client() const { return *client_; }

  std::string Do(const std::string& line) {
    std::istringstream words(line);
    std::string verb;
    words >> verb;
    if (verb == "store" || verb == "read" || verb == "keys") {
      uint64_t seed = 0;
      size_t chunks = 0;
      words >> seed >> chunks;
      const std::vector<Key> keys = ChainKeys(model_, seed, chunks);
      if (verb == "read") return Text(ReadChunks(*client_, model_, keys));
      if (verb == "store") {
        const auto stored = StoreChunks(*client_, model_, {.keys = keys, .count = chunks});
        return stored.ok() ? absl::StrCat("OK ", stored->size()) : Text(stored.status());
      }
      std::string text;
      for (const Key& key : keys) absl::StrAppend(&text, KeyHex(key), " ");
      return text;
    }
    if (verb == "lookup" || verb == "forget" || verb == "reserve") {
      std::vector<Key> keys;
      for (std::string hex; words >> hex;) keys.push_back(*KeyFromHex(hex));
      if (verb == "forget") return Text(client_->Forget(model_, keys));
      if (verb == "reserve")
        return Text(client_->Reserve({.model = model_, .parent = keys.at(0)}).status());
      const auto match = client_->Lookup({.model = model_, .keys = keys, .lease = false});
      return match.ok() ? absl::StrCat(match->chunks) : Text(match.status());
    }
    return Plain(verb, words);
  }

 private:
  std::string Plain(const std::string& verb, std::istringstream& words) {
    grpc::ClientContext context;
    uint64_t session = 0;
    uint64_t lease = 0;
    words >> session >> lease;
    if (verb == "ids") return Ids();
    if (verb == "fetch") {
      v1::FetchRequest request;
      request.set_session_id(session);
      request.set_lease_id(lease);
      const auto stream = kv_->Fetch(&context, request);
      v1::FetchReply reply;
      size_t pieces = 0;
      while (stream->Read(&reply)) ++pieces;
      return absl::StrCat(Text(stream->Finish()), " pieces ", pieces);
    }
    if (verb == "detach") {
      v1::DetachRequest request;
      request.set_session_id(session);
      v1::DetachReply reply;
      return Text(kv_->Detach(&context, request, &reply));
    }
    if (verb == "release") {
      v1::ReleaseRequest request;
      request.set_session_id(session);
      request.add_lease_ids(lease);
      v1::ReleaseReply reply;
      const grpc::Status status = kv_->Release(&context, request, &reply);
      return absl::StrCat(Text(status), " released ", reply.released());
    }
    if (verb == "blocks") {
      v1::BlocksReply reply;
      const grpc::Status status = admin_->Blocks(&context, {}, &reply);
      return status.ok() ? absl::StrCat(reply.chunks_size()) : Text(status);
    }
    return "unknown command";
  }

  // A session and a lease whose numbers are known, which the client library keeps to itself.
  std::string Ids() {
    v1::AttachRequest attach;
    attach.mutable_version()->set_major(wire::kProtocolMajor);
    attach.mutable_version()->set_minor(wire::kProtocolMinor);
    attach.set_pid(getpid());
    v1::AttachReply attached;
    grpc::ClientContext attach_context;
    grpc::Status status = kv_->Attach(&attach_context, attach, &attached);
    if (!status.ok()) return Text(status);
    v1::LookupRequest lookup;
    lookup.set_session_id(attached.session_id());
    lookup.set_model_id(0);
    const Key key = ChainKeys(model_, 1, 1)[0];
    lookup.set_keys(std::string(reinterpret_cast<const char*>(key.data()), key.size()));
    lookup.set_lease(true);
    v1::LookupReply looked_up;
    grpc::ClientContext lookup_context;
    status = kv_->Lookup(&lookup_context, lookup, &looked_up);
    if (!status.ok()) return Text(status);
    return absl::StrCat(attached.session_id(), " ", looked_up.lease_id());
  }

  std::unique_ptr<Client> client_;
  Model model_;
  std::unique_ptr<v1::KvCache::Stub> kv_;
  std::unique_ptr<v1::Admin::Stub> admin_;
};

}  // namespace
}  // namespace kvtier::test_support

int main(int argc, char** argv) {
  using kvtier::test_support::TenantClient;
  if (argc != 3) {
    std::cerr << "usage: tenant_client SOCKET UID\n";
    return 2;
  }
  // The socket's folder may lie in one that only root may enter: go there first.
  const std::filesystem::path socket(argv[1]);
  if (chdir(socket.parent_path().c_str()) != 0) {
    std::cerr << "tenant_client: cannot go to " << socket.parent_path() << "\n";
    return 2;
  }
  const auto uid = static_cast<uid_t>(std::strtoul(argv[2], nullptr, 10));
  if (setgid(uid) != 0 || setuid(uid) != 0) {
    std::cerr << "tenant_client: cannot become user " << uid << "\n";
    return 2;
  }
  TenantClient tenant;
  const absl::Status attached = tenant.Attach(socket.filename());
  std::cout << (attached.ok() ? "ready " + tenant.client().tenant() : attached.ToString())
            << std::endl;
  if (!attached.ok()) return 1;
  for (std::string line; std::getline(std::cin, line);) std::cout << tenant.Do(line) << std::endl;
  return 0;
}
