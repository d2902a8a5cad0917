// How often a client really asks, and what its user is told in the end.
export async function report(act) {
  let sent = 0;
  const counting = (...request) => {
    sent += 1;
    return fetch(...request);
  };
  try {
    await act(counting);
  } catch (error) {
    const last = error.lastError ?? error;
    const { message, statusCode, status, code } = last;
    return { message, status: statusCode ?? status, code: code ?? last.data?.error?.code, sent };
  }
  throw new Error("It was not refused.");
}
