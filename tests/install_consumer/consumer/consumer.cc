// A program that knows of kvtier only what is installed: it asks for a daemon at a socket that
// nobody listens on, and expects to be told so within the stated bound.
#include <kvtier/client.h>

#include <cstdio>
#include <string>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: consumer SOCKET\n");
    return 2;
  }
  kvtier::ClientOptions options;
  options.socket = argv[1];
  options.unavailable_after = absl::Seconds(1);
  const absl::StatusOr<std::unique_ptr<kvtier::Client>> client = kvtier::Client::Connect(options);
  if (client.ok()) {
    std::fprintf(stderr, "attached to a daemon that cannot be there\n");
    return 1;
  }
  std::printf("%s\n", client.status().ToString().c_str());
  const std::string message(client.status().message());
  return client.status().code() == absl::StatusCode::kUnavailable &&
                 message.find(options.socket) != std::string::npos
             ? 0
             : 1;
}
