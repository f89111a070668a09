import FanfareLoops
internal import Glibc

/// An address to connect to, as the system gave it.
struct SocketAddress: Sendable {
    let family: CInt
    private let bytes: [UInt8]

    private init(_ info: addrinfo) {
        self.family = info.ai_family
        self.bytes = Array(UnsafeRawBufferPointer(start: info.ai_addr, count: Int(info.ai_addrlen)))
    }

    func withPointer<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        self.bytes.withUnsafeBytes { bytes in
            // Bytes of an address that the system wrote; arrays' storage is aligned well enough for it.
            guard let start = bytes.baseAddress else {
                var none = sockaddr()
                return body(&none, 0)
            }
            return body(start.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
        }
    }

    /// Blocks while a name server is asked, unless `isNumeric`.
    static func resolve(
        _ host: String, port: Int, isNumeric: Bool = false
    ) -> Result<[SocketAddress], LinkFailure> {
        var hints = addrinfo()
        hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_NUMERICSERV | (isNumeric ? AI_NUMERICHOST : 0)
        var first: UnsafeMutablePointer<addrinfo>?
        let result = getaddrinfo(host, String(port), &hints, &first)
        guard result == 0 else {
            return .failure(LinkFailure("cannot resolve \(host): \(String(cString: gai_strerror(result)))"))
        }
        defer { freeaddrinfo(first) }
        var addresses: [SocketAddress] = []
        var next = first
        while let info = next {
            addresses.append(SocketAddress(info.pointee))
            next = info.pointee.ai_next
        }
        return addresses.isEmpty ? .failure(LinkFailure("\(host) has no address")) : .success(addresses)
    }
}

/// Turns names into addresses without blocking a loop.
enum NameResolver {
    private final class Request: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    /// Calls `completion` once, on the loop: at once for a numeric address, else from a thread that asks the name server.
    /// That may take as long as the system's resolver is patient.
    static func resolve(
        _ host: String, port: Int, on loop: EdgeLoop,
        completion: @escaping @Sendable (Result<[SocketAddress], LinkFailure>) -> Void
    ) {
        if case .success(let addresses) = SocketAddress.resolve(host, port: port, isNumeric: true) {
            return completion(.success(addresses))
        }
        let request = Request {
            let result = SocketAddress.resolve(host, port: port)
            loop.execute { completion(result) }
        }
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setdetachstate(&attributes, CInt(PTHREAD_CREATE_DETACHED))
        var thread = pthread_t()
        let context = Unmanaged.passRetained(request)
        let number = pthread_create(
            &thread, &attributes,
            { context in
                guard let context else { return nil }
                Unmanaged<Request>.fromOpaque(context).takeRetainedValue().body()
                return nil
            }, context.toOpaque())
        if number != 0 {
            context.release()
            completion(.failure(LinkFailure(SystemError("pthread_create", number: number).description)))
        }
    }
}
